//! Consumes a durable queue of events, submissions or deferred results, reconnecting as needed. The
//! waiting jobs are consumed by `dispatcher::lanes`.

use std::pin::pin;

use futures::StreamExt;
use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, acknowledgement, consumer};
use warmq_process::retry;
use warmq_types::server_url::ServerUrl;

use crate::session_error::SessionError;

/// A consumer's queue and limits.
pub struct ReconnectingConsumer<'a> {
    /// Purpose, as logs and RabbitMQ's lists show it: `deferred results`.
    pub what: &'static str,
    pub(crate) amqp_url: &'a ServerUrl,
    pub(crate) topology: &'a Topology,
    pub(crate) queue: String,
    pub(crate) prefetch: u16,
    /// Messages handled concurrently.
    pub max_concurrent: usize,
}

impl ReconnectingConsumer<'_> {
    /// Passes each message to `handle`, which acks it, until `shutdown`. A message about an
    /// unreadable record is acked here, so that the others proceed. Handlers in progress complete
    /// at shutdown, since a half-handled message would be handled twice.
    pub async fn each<F>(&self, shutdown: &CancellationToken, handle: impl Fn(Delivery) -> F)
    where
        F: Future<Output = Result<(), SessionError>>,
    {
        let what = format!("reading {}", self.what);
        retry::until_known(&what, shutdown, || self.connected(shutdown, &handle)).await;
    }

    async fn connected<F>(
        &self,
        shutdown: &CancellationToken,
        handle: &impl Fn(Delivery) -> F,
    ) -> Result<(), SessionError>
    where
        F: Future<Output = Result<(), SessionError>>,
    {
        let name = format!("warmq-router {}", self.what);
        let connection = warmq_broker::connect(self.amqp_url, &name).await?;
        let channel = consumer::channel(&connection, self.prefetch).await?;
        self.topology.declare_base(&channel).await?;
        let messages = consumer::consume(&channel, &self.queue, "router").await?;
        let mut handled = pin!(
            messages
                .take_until(shutdown.cancelled())
                .map(|delivery| async { self.handled(delivery?, handle).await })
                .buffer_unordered(self.max_concurrent)
        );
        while let Some(done) = handled.next().await {
            done?;
        }
        match shutdown.is_cancelled() {
            true => Ok(connection.close(200, "stopping".into()).await?),
            false => Err(SessionError::Ended),
        }
    }

    async fn handled<F>(
        &self,
        delivery: Delivery,
        handle: &impl Fn(Delivery) -> F,
    ) -> Result<(), SessionError>
    where
        F: Future<Output = Result<(), SessionError>>,
    {
        let acker = delivery.acker.clone();
        match handle(delivery).await {
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "dropped a message of {}: its job's record cannot be read", self.what);
                acknowledgement::ack(&acker).await?;
                Ok(())
            }
            done => done,
        }
    }
}
