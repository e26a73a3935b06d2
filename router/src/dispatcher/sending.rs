//! Sends a job to its next queue: publish, wait for the confirm, then ack the message of the lane.

use std::time::SystemTime;

use warmq_broker::{
    DeadLetter, Message, PublishError, Publisher, Topology, acknowledgement, has_returned,
};
use warmq_traces::{Parent, SpanKind, Traces};
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::message::{FailureHistory, JobMessage, Versioned};
use warmq_types::owner_lane::OwnerLane;
use warmq_types::retry_tier::RetryTier;

use super::lanes::JobDelivery;
use crate::session_error::SessionError;

/// How long a claim reserves a runner, ms. The runner's queue returns the job well before.
pub(super) const CLAIM_MS: u64 = 10_000;

/// A delivered job with its destination.
pub(super) struct PlacedJob {
    pub(super) delivered: JobDelivery,
    pub(super) to: Destination,
}

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The claimed runner's own queue.
    Runner(RunnerId, Epoch),
    /// The app's shared queue.
    Shared,
    /// The overflow queue of its owner in its lane: further jobs of that owner would fill the lane.
    Overflow(OwnerLane),
    /// A retry tier: another runner, perhaps a dead one, holds the job's lease. Never dropped,
    /// since it may be the only copy.
    Parked(RetryTier),
    /// A retry tier until its next attempt, with the failures of its attempts.
    NextAttempt(RetryTier, FailureHistory),
    /// None: the job needs no runner.
    Discard,
}

/// A job whose chosen runner's queue is gone; it must be placed again.
pub(super) struct RunnerGone {
    pub(super) delivered: JobDelivery,
    pub(super) runner: RunnerId,
    pub(super) epoch: Epoch,
}

/// Publishes an app's jobs.
#[derive(Clone, Copy)]
pub(super) struct JobSender<'a> {
    pub(super) app: &'a AppId,
    pub(super) topology: &'a Topology,
    pub(super) publisher: &'a Publisher,
    pub(super) traces: &'a Traces,
}

impl JobSender<'_> {
    /// Publishes a job to its destination and acks it. Returns the job if its runner is gone.
    pub(super) async fn send(self, job: PlacedJob) -> Result<Option<RunnerGone>, SessionError> {
        let PlacedJob { delivered, to } = job;
        let start = SystemTime::now();
        match (self.publish(&delivered, &to).await, to) {
            (Ok(()), to) => {
                self.trace(&delivered, &to, start);
                acknowledgement::ack(&delivered.delivery.acker).await?;
                Ok(None)
            }
            (Err(PublishError::Returned { .. }), Destination::Runner(runner, epoch)) => {
                tracing::info!(
                    job.id = %delivered.job.id, %runner,
                    "the chosen runner is gone; placing the job again"
                );
                Ok(Some(RunnerGone {
                    delivered,
                    runner,
                    epoch,
                }))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Records the spans of a placement: from the delivery until `start`, and until now.
    fn trace(self, delivered: &JobDelivery, to: &Destination, start: SystemTime) {
        if !self.traces.are_recorded() {
            return;
        }
        let queue = match to {
            Destination::Runner(runner, epoch) => self.topology.runner_queue(runner, *epoch),
            Destination::Shared => self.topology.shared_queue(self.app),
            Destination::Overflow(_)
            | Destination::Parked(_)
            | Destination::NextAttempt(..)
            | Destination::Discard => return,
        };
        let parent = Parent::of(&delivered.job);
        let mut hold =
            (self.traces).span("hold", SpanKind::Internal, parent, delivered.delivered());
        hold.set_job(&delivered.job);
        hold.end_at(start);
        let mut dispatch = (self.traces).span("dispatch", SpanKind::Producer, parent, start);
        dispatch.set_job(&delivered.job);
        dispatch.set("messaging.system", "rabbitmq");
        dispatch.set("messaging.destination.name", queue);
    }

    /// Publishes the job with its original body and new properties, without the headers that the
    /// broker added.
    async fn publish(self, delivered: &JobDelivery, to: &Destination) -> Result<(), PublishError> {
        let topology = self.topology;
        let (exchange, key) = match to {
            Destination::Runner(runner, epoch) => {
                (String::new(), topology.runner_queue(runner, *epoch))
            }
            Destination::Shared => (String::new(), topology.shared_queue(self.app)),
            Destination::Overflow(jobs) => (String::new(), topology.overflow_queue(self.app, jobs)),
            Destination::Parked(tier) | Destination::NextAttempt(tier, _) => (
                topology.retry_exchange(*tier),
                topology.lane_key(self.app, delivered.job.priority),
            ),
            Destination::Discard => return Ok(()),
        };
        let original = &delivered.delivery.data;
        let body = match to {
            // Decoding succeeded before, and encoding cannot fail: string keys, no I/O.
            Destination::NextAttempt(_, failures) => JobMessage::decode(original)
                .unwrap_or_else(|_| JobMessage::new(delivered.decode_job()))
                .with(failures.clone())
                .encode()
                .unwrap_or_default(),
            _ => original.clone(),
        };
        let mut message = Message {
            message_id: Some(delivered.job.id.to_string()),
            // Storing costs RabbitMQ more than all else (decision 0016); its record remains.
            transient: matches!(to, Destination::Runner(..)),
            ..Message::new(body)
        };
        if matches!(to, Destination::Overflow(_)) && has_returned(&delivered.delivery) {
            message = message.returned();
        }
        match self.publisher.publish(&exchange, &key, &message).await {
            // The broker accepted this size before; the record has the failures as well.
            Err(error) if error.is_unacceptable() && message.body != *original => {
                tracing::warn!(
                    job.id = %delivered.job.id, %error,
                    "a job's message has become too large for RabbitMQ"
                );
                message.body.clone_from(original);
                self.publisher.publish(&exchange, &key, &message).await
            }
            published => published,
        }
    }

    /// Publishes a dead letter of the app.
    pub(super) async fn dead_letter(self, letter: DeadLetter) -> Result<(), PublishError> {
        let queue = self.topology.dead_queue(self.app);
        self.publisher.publish("", &queue, &letter.message()).await
    }
}
