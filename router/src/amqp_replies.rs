//! Consumes the events of ended jobs that have a reply address or `no_store`: sends the reply, the
//! webhook's body, to the queue in `reply_to`; deletes the stored input. Events may repeat; a reply
//! is sent once.

use lapin::ErrorKind;
use lapin::message::Delivery;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use serde_json::Value;
use tokio::sync::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use warmq_broker::{Message, PublishError, Publisher, Topology, acknowledgement};
use warmq_objects::ObjectStorage;
use warmq_store::Store;
use warmq_types::ids::JobId;
use warmq_types::job::JobError;
use warmq_types::message::{JobEvent, Versioned, error_body};
use warmq_types::server_url::ServerUrl;

use crate::files::{SignedUrls, references};
use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;

const PREFETCH: u16 = 64;

/// Events handled concurrently.
const MAX_CONCURRENT: usize = 32;

/// Locks that order the replies of one job; jobs share them by id.
const ORDERING_LOCKS: usize = 256;

/// Prefix of RabbitMQ's direct reply-to addresses.
pub(crate) const DIRECT: &str = "amq.rabbitmq.reply-to";

/// Attempts to send a reply concurrently with others, before it is sent alone.
const ATTEMPTS: u32 = 2;

/// Sends replies over a connection of their own. A submitter that disconnected is not a failure.
/// Nor is one that forged its direct reply-to address: RabbitMQ then closes the connection with an
/// internal error, which fails all replies in flight. Each of them is sent again, finally alone, to
/// find the one with the forged address.
pub(crate) struct ReplySender {
    publisher: Publisher,
    /// Held for reading by concurrent replies, for writing by one that is sent alone.
    alone: RwLock<()>,
}

impl ReplySender {
    /// Returns a sender. `name`: of its connection in RabbitMQ's lists.
    pub(crate) fn new(amqp_url: ServerUrl, name: &str) -> Self {
        Self {
            publisher: Publisher::new(amqp_url, name),
            alone: RwLock::default(),
        }
    }

    pub(crate) async fn send(&self, queue: &str, reply: &Message) -> Result<(), PublishError> {
        for _ in 0..ATTEMPTS {
            let _concurrent = self.alone.read().await;
            match self.publisher.announce("", queue, reply).await {
                Err(PublishError::Lapin(_)) => {}
                sent => return sent,
            }
        }
        let _alone = self.alone.write().await;
        match self.publisher.announce("", queue, reply).await {
            // The connection may have broken earlier: only a new one tests this reply alone.
            Err(PublishError::Lapin(_)) => {}
            sent => return sent,
        }
        match self.publisher.announce("", queue, reply).await {
            Err(PublishError::Lapin(error)) if queue.starts_with(DIRECT) && is_internal(&error) => {
                tracing::warn!(queue, %error, "dropped a reply: RabbitMQ rejects its address");
                Ok(())
            }
            sent => sent,
        }
    }
}

fn is_internal(error: &lapin::Error) -> bool {
    let internal = AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == internal)
}

/// Consumer of ended jobs that sends replies.
pub struct Replies {
    store: Store,
    amqp_url: ServerUrl,
    topology: Topology,
    sender: ReplySender,
    signed_urls: SignedUrls,
    /// Storage of inputs to be deleted.
    storage: ObjectStorage,
    /// Orders the replies of one job: a job with two events gets one reply.
    locks: [Mutex<()>; ORDERING_LOCKS],
}

impl Replies {
    /// Returns a consumer for the jobs in `store`. `signed_urls`: of the files in results.
    pub fn new(
        store: Store,
        amqp_url: ServerUrl,
        topology: Topology,
        signed_urls: SignedUrls,
        storage: ObjectStorage,
    ) -> Self {
        Self {
            store,
            topology,
            sender: ReplySender::new(amqp_url.clone(), "warmq-router replies"),
            amqp_url,
            signed_urls,
            storage,
            locks: [(); ORDERING_LOCKS].map(Mutex::new),
        }
    }

    /// Replies until `shutdown`, reconnecting as needed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let replies = ReconnectingConsumer {
            what: "events with a reply",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.reply_events_queue(),
            prefetch: PREFETCH,
            max_concurrent: MAX_CONCURRENT,
        };
        replies
            .each(&shutdown, |delivery| self.handle(delivery))
            .await;
        Ok(())
    }

    async fn handle(&self, delivery: Delivery) -> Result<(), SessionError> {
        match JobEvent::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped an unreadable event"),
            Ok(event) => {
                self.delete_input(&event).await;
                self.reply(&event).await?;
            }
        }
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }

    /// Deletes the stored input of an ended job with `no_store`.
    async fn delete_input(&self, event: &JobEvent) {
        if let Some(stored) = &event.forget_input
            && let Err(error) = self.storage.delete_input(stored).await
        {
            tracing::warn!(
                job.id = %event.job_id, %error, file.key = stored.key,
                "could not delete the input of a job with no_store"
            );
        }
    }

    async fn reply(&self, event: &JobEvent) -> Result<(), SessionError> {
        let (app, job) = (&event.app, event.job_id);
        let lock = usize::try_from(job.coin() % ORDERING_LOCKS as u64).unwrap_or_default();
        let _lock = self.locks[lock].lock().await;
        let first = event.reply_to.as_ref();
        let Some(reply_to) = self.store.replies().address(app, job, first).await? else {
            return Ok(());
        };
        let Some(record) = self.store.jobs().job_of(app, job).await? else {
            return Ok(());
        };
        let body = references::outcome(&record, &self.signed_urls);
        let message = Message {
            correlation_id: reply_to.correlation_id.clone(),
            ..Message::new(body.to_string().into_bytes())
        };
        match self.sender.send(&reply_to.queue, &message).await {
            Err(error) if error.is_unacceptable() => {
                tracing::warn!(job.id = %job, %error, "a reply is too large");
                let message = Message {
                    body: too_large_to_reply(job, &error).to_string().into_bytes(),
                    ..message
                };
                self.sender.send(&reply_to.queue, &message).await?;
            }
            sent => sent?,
        }
        Ok(self
            .store
            .replies()
            .record_sent(&record.spec, &reply_to)
            .await?)
    }
}

/// Returns the reply that replaces one too large for the broker.
fn too_large_to_reply(job: JobId, reason: &PublishError) -> Value {
    let error = JobError {
        status: 413,
        error_type: "payload_too_large".to_owned(),
        message: format!("the outcome is too large for an AMQP reply: read it by HTTP ({reason})"),
        detail: Vec::new(),
    };
    error_body(Some(job), &error)
}
