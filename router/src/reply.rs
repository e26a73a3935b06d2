//! Tells AMQP submitters how their jobs ended: the webhook's body, to the queue that they named. An end may be announced
//! more than once; it is told once.

use lapin::ErrorKind;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::{Message, PublishError, Publisher, Topology};
use warmq_common::artifacts::Artifacts;
use warmq_common::config::ServerUrl;
use warmq_common::message::{JobEvent, Versioned};
use warmq_common::store::Store;

use crate::broken::Broken;
use crate::consuming::Consuming;
use crate::files::Links;

/// Events that the broker hands out ahead.
const WINDOW: u16 = 64;

/// Begins the addresses that RabbitMQ makes for direct reply-to.
pub(crate) const DIRECT: &str = "amq.rabbitmq.reply-to";

/// How often a reply is sent whose connection ends under it.
const ATTEMPTS: u32 = 3;

/// Sends a reply. A submitter that left is no failure, and neither is one that forged the address of its direct replies: RabbitMQ
/// ends the connection with an internal error then, and would do so again. So replies have a connection that carries
/// nothing else; and as all that are on their way end with it, each is sent again before its own address is blamed.
pub(crate) async fn send(
    replies: &Publisher,
    queue: &str,
    reply: &Message,
) -> Result<(), PublishError> {
    let mut attempt = 1;
    loop {
        match replies.announce("", queue, reply).await {
            Err(PublishError::Lapin(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(PublishError::Lapin(error)) if queue.starts_with(DIRECT) && is_internal(&error) => {
                tracing::warn!(queue, %error, "dropped a reply: RabbitMQ can not read its address");
                return Ok(());
            }
            sent => return sent,
        }
    }
}

fn is_internal(error: &lapin::Error) -> bool {
    let internal = AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == internal)
}

/// Consumes the ended jobs.
pub struct Replies {
    /// Where the outcomes are.
    pub store: Store,
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// For the replies, and nothing else.
    pub publisher: Publisher,
    /// For the files in outcomes.
    pub links: Links,
    /// Where inputs are that are to be forgotten.
    pub artifacts: Artifacts,
}

impl Replies {
    /// Replies until `shutdown`, over as many connections as it takes.
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let replies = Consuming {
            what: "ends to reply to",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.reply_events_queue(),
            window: WINDOW,
            side_by_side: 1,
        };
        replies
            .each(&shutdown, |delivery| self.reply(delivery))
            .await;
        Ok(())
    }

    async fn reply(&self, delivery: Delivery) -> Result<(), Broken> {
        match JobEvent::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped an event that can not be read"),
            Ok(event) => {
                let (app, job) = (&event.app, event.job_id);
                if let Some(stored) = &event.forget_input
                    && let Err(error) = self.artifacts.delete_input(stored).await
                {
                    tracing::warn!(job.id = %job, %error, file.key = stored.key, "an input that was to be forgotten stays in the storage");
                }
                let first = event.reply_to.as_ref();
                if let Some(reply_to) = self.store.reply_address(app, job, first).await?
                    && let Some(record) = self.store.job_of(app, job).await?
                {
                    let body = self.links.outcome(&record);
                    let message = Message {
                        correlation_id: reply_to.correlation_id.clone(),
                        ..Message::new(body.to_string().into_bytes())
                    };
                    send(&self.publisher, &reply_to.queue, &message).await?;
                    self.store.note_reply(app, job, &reply_to).await?;
                }
            }
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}
