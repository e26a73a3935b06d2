//! Consumes AMQP submissions from exchange `jobs`. An invalid one is dead-lettered with the reason,
//! and its submitter gets a reply if it gave `reply_to`.

use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use warmq_broker::dead_letter::{RefusedSubmission, submission_headers, text_header};
use warmq_broker::{DeadLetter, Message, PublishError, Publisher, Topology, acknowledgement};
use warmq_process::retry;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobError, ReplyTo};
use warmq_types::message::error_body;
use warmq_types::server_url::ServerUrl;

use super::{Submission, SubmitError, Submitter};
use crate::access::Caller;
use crate::amqp_replies::{self, ReplySender};
use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;

/// Submissions processed at once.
const PREFETCH: u16 = 64;

/// Prefixes of allowed reply queues; any other queue could belong to another program.
const REPLY_PREFIXES: [&str; 2] = [amqp_replies::DIRECT, "reply."];

/// Consumer of the submissions queue.
pub(crate) struct AmqpSubmissions {
    amqp_url: ServerUrl,
    topology: Topology,
    publisher: Publisher,
    replies: ReplySender,
    submitter: Submitter,
}

impl AmqpSubmissions {
    /// Returns a consumer of the queue `submissions` of `topology`.
    pub(crate) fn new(
        amqp_url: ServerUrl,
        topology: Topology,
        publisher: Publisher,
        submitter: Submitter,
    ) -> Self {
        Self {
            replies: ReplySender::new(amqp_url.clone(), "warmq-router refusals"),
            amqp_url,
            topology,
            publisher,
            submitter,
        }
    }

    /// Consumes until `shutdown`, reconnecting as needed.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let submissions = ReconnectingConsumer {
            what: "submissions",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.submissions_queue(),
            prefetch: PREFETCH,
            max_concurrent: usize::from(PREFETCH),
        };
        submissions
            .each(&shutdown, |delivery| self.handle(delivery, &shutdown))
            .await;
        Ok(())
    }

    /// Accepts or dead-letters one message. While a server is unreachable it waits unacknowledged.
    async fn handle(
        &self,
        delivery: Delivery,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let refused = match self.parse(&delivery) {
            Err(error) => Some(error),
            Ok(submission) => {
                // Completes even at shutdown: an interrupted submission would be a job whose
                // message is redelivered.
                let outcome = retry::until_known("accepting an AMQP submission", shutdown, || {
                    let submission = submission.clone();
                    async {
                        // RabbitMQ authenticated the publisher.
                        match self.submitter.submit(&Caller::Trusted, submission).await {
                            Ok(_) => Ok(None),
                            Err(error) if error.is_temporary() => Err(error),
                            Err(error) => Ok(Some(error.to_job_error())),
                        }
                    }
                });
                match outcome.await {
                    Some(refused) => refused,
                    None => return Ok(()), // Stopping: RabbitMQ redelivers it to another router.
                }
            }
        };
        if let Some(error) = refused {
            self.dead_letter(&delivery, &error).await?;
        }
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }

    /// Parses the message, unless it is too large or a property is invalid.
    fn parse(&self, delivery: &Delivery) -> Result<Submission, JobError> {
        let (bytes, max_bytes) = (delivery.data.len(), self.submitter.max_input_bytes);
        match bytes > max_bytes {
            true => Err(SubmitError::TooLarge { bytes, max_bytes }.to_job_error()),
            false => parse(delivery),
        }
    }

    async fn dead_letter(&self, delivery: &Delivery, error: &JobError) -> Result<(), SessionError> {
        let key = delivery.routing_key.as_str();
        tracing::info!(amqp.routing_key = key, reason = %error.message, "refused an AMQP submission");
        let dead_queue = match AppId::parse(key) {
            // Only an existing app has a dead-letter queue.
            Ok(app) if error.status != 404 => self.topology.dead_queue(&app),
            _ => self.topology.dead_submissions_queue(),
        };
        let properties = &delivery.properties;
        let dead = DeadLetter {
            submission: Some(RefusedSubmission {
                routing_key: key.to_owned(),
                message_id: properties.message_id().as_ref().map(ToString::to_string),
                headers: submission_headers(properties),
            }),
            ..DeadLetter::new(delivery.data.clone(), error.message.as_str())
        };
        self.publish_dead_letter(&dead_queue, &dead.message())
            .await?;
        if let Some(reply_to) = reply_to(delivery).filter(may_reply) {
            let body = error_body(None, error).to_string().into_bytes();
            let body = Message {
                correlation_id: reply_to.correlation_id,
                ..Message::new(body)
            };
            self.replies.send(&reply_to.queue, &body).await?;
        }
        Ok(())
    }

    /// Publishes a dead letter; to the queue of refused submissions if the app has none yet.
    async fn publish_dead_letter(&self, queue: &str, dead: &Message) -> Result<(), PublishError> {
        match self.publisher.publish("", queue, dead).await {
            Err(PublishError::Returned { .. }) => {
                let fallback = self.topology.dead_submissions_queue();
                self.publisher.publish("", &fallback, dead).await
            }
            other => other,
        }
    }
}

/// Parses the message, unless a property is invalid.
fn parse(delivery: &Delivery) -> Result<Submission, JobError> {
    let reply_to = reply_to(delivery);
    if let Some(reply_to) = reply_to.as_ref().filter(|reply_to| !may_reply(reply_to)) {
        return Err(JobError::field(
            &["reply_to"],
            "invalid_reply_to",
            format!(
                "invalid reply queue '{}': use direct reply-to, or a queue whose name begins with 'reply.'",
                reply_to.queue
            ),
        ));
    }
    let properties = &delivery.properties;
    let message_id = properties.message_id().as_ref();
    // Some clients send an empty property for an absent one.
    let message_id = message_id.map(|id| id.as_str()).filter(|id| !id.is_empty());
    let id: Option<JobId> = message_id.and_then(|id| id.parse().ok());
    // fal's header names are accepted, too.
    let header = |name: &str| {
        let text = |prefix: &str| text_header(properties, &format!("{prefix}{name}"));
        text("x-").or_else(|| text("x-fal-"))
    };
    Ok(Submission {
        app: delivery.routing_key.to_string(),
        path: String::new(),
        body: delivery.data.clone().into(),
        content_encoding: properties
            .content_encoding()
            .as_ref()
            .map(ToString::to_string),
        hint: header("runner-hint"),
        priority: header("queue-priority"),
        max_warm_wait: header("max-warm-wait"),
        start_timeout: header("request-start-timeout"),
        request_timeout: header("request-timeout"),
        // Assigned here, so that retries of this message submit one job.
        id: Some(id.unwrap_or_else(JobId::generate)),
        redelivered: delivery.redelivered,
        no_retry: header("no-retry"),
        idempotency_key: message_id.filter(|_| id.is_none()).map(str::to_owned),
        store_io: header("store-io"),
        lifecycle: header("object-lifecycle-preference").or_else(|| header("object-lifecycle")),
        reply_to,
        headers: submission_headers(properties)
            .into_iter()
            .map(|(name, text)| (name.to_lowercase(), text))
            .collect(),
        ..Submission::default()
    })
}

fn reply_to(delivery: &Delivery) -> Option<ReplyTo> {
    let properties = &delivery.properties;
    let queue = properties.reply_to().as_ref()?.to_string();
    let correlation_id = properties.correlation_id().as_ref();
    Some(ReplyTo {
        queue,
        correlation_id: correlation_id.map(ToString::to_string),
    })
}

fn may_reply(reply_to: &ReplyTo) -> bool {
    REPLY_PREFIXES
        .iter()
        .any(|prefix| reply_to.queue.starts_with(prefix))
}
