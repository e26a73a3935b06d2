//! A durable queue as a role of the router reads it: message by message, over as many connections
//! as it takes.

use std::pin::pin;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, consumer};
use warmq_process::retry;
use warmq_types::server_url::ServerUrl;

use crate::session_error::SessionError;

/// What is read, and how.
pub struct QueueConsumer<'a> {
    /// What for, as logs and RabbitMQ's lists show it: `late results`.
    pub what: &'static str,
    /// RabbitMQ.
    pub amqp_url: &'a ServerUrl,
    /// Its names.
    pub topology: &'a Topology,
    /// The queue.
    pub queue: String,
    /// Messages that the broker hands out ahead.
    pub prefetch: u16,
    /// Messages that are handled side by side.
    pub max_concurrent: usize,
}

impl QueueConsumer<'_> {
    /// Hands each message to `handle`, which acknowledges it, until `shutdown`; one about a record
    /// that cannot be read is acknowledged here, since the others must go on. What is under way
    /// then is brought to its end: a message whose work is half done would be done twice.
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
                acker.ack(BasicAckOptions::default()).await?;
                Ok(())
            }
            done => done,
        }
    }
}
