//! Tells AMQP submitters how their jobs ended: the webhook's body, to the queue that they named. An end may be announced
//! more than once; it is told once.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::{self, Message, Publisher, Topology, consumer};
use warmq_common::artifacts::with_public_urls;
use warmq_common::config::ServerUrl;
use warmq_common::message::{JobEvent, Versioned, outcome_body};
use warmq_common::retry;
use warmq_common::store::Store;

use crate::broken::Broken;

/// Events that the broker hands out ahead.
const WINDOW: u16 = 64;

/// Consumes the ended jobs.
pub struct Replies {
    /// Where the outcomes are.
    pub store: Store,
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// For the replies.
    pub publisher: Publisher,
    /// Begins the URLs of artifacts.
    pub public_url: Arc<str>,
}

impl Replies {
    /// Replies until `shutdown`, over as many connections as it takes.
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // A reply under way is noted: the next router must not tell it again.
        retry::until_known("replying to AMQP submitters", &shutdown, || {
            self.consume(&shutdown)
        })
        .await;
        Ok(())
    }

    async fn consume(&self, shutdown: &CancellationToken) -> Result<(), Broken> {
        let connection = amqp::connect(&self.amqp_url, "warmq-router replies").await?;
        let channel = consumer::channel(&connection, WINDOW).await?;
        self.topology.declare_base(&channel).await?;
        let queue = self.topology.reply_events_queue();
        let ended = consumer::consume(&channel, &queue, "reply").await?;
        let mut events = pin!(ended.take_until(shutdown.cancelled()));
        while let Some(delivery) = events.next().await {
            self.reply(delivery?).await?;
        }
        match shutdown.is_cancelled() {
            true => Ok(connection.close(200, "stopping".into()).await?),
            false => Err(Broken::Ended),
        }
    }

    async fn reply(&self, delivery: Delivery) -> Result<(), Broken> {
        match JobEvent::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped an event that can not be read"),
            Ok(event) => {
                let (app, job) = (&event.app, event.job_id);
                let first = event.reply_to.as_ref();
                if let Some(reply_to) = self.store.reply_address(app, job, first).await?
                    && let Some(record) = self.store.job_of(app, job).await?
                {
                    let mut body = outcome_body(&record);
                    with_public_urls(&mut body, &self.public_url);
                    let message = Message {
                        correlation_id: reply_to.correlation_id.clone(),
                        ..Message::new(body.to_string().into_bytes())
                    };
                    // Not mandatory: a submitter that left is no failure.
                    self.publisher
                        .announce("", &reply_to.queue, &message)
                        .await?;
                    self.store.note_reply(app, job, &reply_to).await?;
                }
            }
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}
