//! Sends a job to its next queue: publish, wait for the confirm, then ack the message of the lane.

use std::time::Duration;

use lapin::options::BasicAckOptions;
use warmq_broker::{DeadLetter, Message, PublishError};
use warmq_store::{Loss, Unavailable};
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::message::{FailureHistory, JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;

use super::Dispatcher;
use super::lanes::JobDelivery;
use crate::session_error::SessionError;

/// How long a claim reserves a runner, ms. The runner's queue returns the job well before.
pub(super) const CLAIM_MS: u64 = 10_000;

/// Dead-letter reason of a job whose record no script can process.
const DAMAGED: &str = "its record in Redis is damaged";

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The claimed runner's own queue.
    Runner(RunnerId, Epoch),
    /// The app's shared queue.
    Shared,
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
    pub(super) held: JobDelivery,
    pub(super) runner: RunnerId,
    pub(super) epoch: Epoch,
}

impl Dispatcher {
    /// Publishes a held job to its destination and acks it. Returns the job if its runner is gone.
    pub(super) async fn send(
        &self,
        held: JobDelivery,
        to: Destination,
    ) -> Result<Option<RunnerGone>, SessionError> {
        if to != Destination::Discard {
            match (self.publish(&held, &to).await, to) {
                (Ok(()), _) => {}
                (Err(PublishError::Returned { .. }), Destination::Runner(runner, epoch)) => {
                    tracing::info!(job.id = %held.job.id, %runner, "the chosen runner is gone; placing the job again");
                    return Ok(Some(RunnerGone {
                        held,
                        runner,
                        epoch,
                    }));
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        held.delivery.ack(BasicAckOptions::default()).await?;
        Ok(None)
    }

    /// Publishes the job with its original body and new properties, without the headers that the
    /// broker added.
    async fn publish(&self, held: &JobDelivery, to: &Destination) -> Result<(), PublishError> {
        let topology = &self.shared.topology;
        let mut body = held.delivery.data.clone();
        let (exchange, key) = match to {
            Destination::Runner(runner, epoch) => {
                (String::new(), topology.runner_queue(runner, *epoch))
            }
            Destination::Shared => (String::new(), topology.shared_queue(&self.app)),
            Destination::Parked(tier) | Destination::NextAttempt(tier, _) => (
                topology.retry_exchange(*tier),
                topology.lane_key(&self.app, held.job.priority),
            ),
            Destination::Discard => return Ok(()),
        };
        if let Destination::NextAttempt(_, failures) = to {
            // Decoding succeeded before, and encoding cannot fail: string keys, no I/O.
            body = JobMessage::decode(&body)
                .unwrap_or_else(|_| JobMessage::new(held.decode_job()))
                .with(failures.clone())
                .encode()
                .unwrap_or_default();
        }
        let mut message = Message {
            message_id: Some(held.job.id.to_string()),
            ..Message::new(body)
        };
        let publisher = &self.shared.publisher;
        match publisher.publish(&exchange, &key, &message).await {
            // The broker accepted this size before; the record has the failures as well.
            Err(error) if error.is_unacceptable() && message.body != held.delivery.data => {
                tracing::warn!(job.id = %held.job.id, %error, "a job's message has become too large for RabbitMQ");
                message.body.clone_from(&held.delivery.data);
                publisher.publish(&exchange, &key, &message).await
            }
            published => published,
        }
    }

    /// Returns the destination of a job that Redis refuses to send to a runner now; `None` if it
    /// may be tried again at once. A job with an unusable record becomes a dead letter, so that the
    /// jobs behind it proceed.
    pub(super) async fn reroute(
        &self,
        held: &JobDelivery,
        unavailable: Unavailable,
    ) -> Result<Option<Destination>, SessionError> {
        match self.next_destination(held, unavailable).await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %held.job.id, %error, "a job's record cannot be used");
                self.dead_letter(held).await
            }
            place => place,
        }
    }

    async fn dead_letter(&self, held: &JobDelivery) -> Result<Option<Destination>, SessionError> {
        let letter = DeadLetter {
            id: held.job.id,
            ..DeadLetter::new(held.delivery.data.clone(), DAMAGED)
        };
        let queue = self.shared.topology.dead_queue(&self.app);
        let publisher = &self.shared.publisher;
        publisher.publish("", &queue, &letter.message()).await?;
        Ok(Some(Destination::Discard))
    }

    async fn next_destination(
        &self,
        held: &JobDelivery,
        unavailable: Unavailable,
    ) -> Result<Option<Destination>, SessionError> {
        let job = &held.job;
        match unavailable {
            Unavailable::Damaged => self.dead_letter(held).await,
            Unavailable::Gone => {
                tracing::info!(job.id = %job.id, "dropped a copy of a job that ended and expired");
                Ok(Some(Destination::Discard))
            }
            Unavailable::Parked { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                let failures = self
                    .shared
                    .store
                    .attempts()
                    .failure_history(&self.app, job.id)
                    .await?;
                Ok(Some(match failures.is_empty() {
                    false => Destination::NextAttempt(tier, failures),
                    true => Destination::Parked(tier),
                }))
            }
            Unavailable::Terminal(state) => {
                // The component that ended it may have crashed before it published the event.
                self.shared.finalizer.announce(job, state).await?;
                Ok(Some(Destination::Discard))
            }
            Unavailable::Leased { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                Ok(Some(Destination::Parked(tier)))
            }
            Unavailable::Lost => {
                let Some(loss) = self
                    .shared
                    .store
                    .attempts()
                    .mark_lost(&self.app, job.id)
                    .await?
                else {
                    return Ok(None);
                };
                let Loss {
                    attempt,
                    runner,
                    pause,
                } = loss;
                tracing::warn!(job.id = %job.id, attempt, %runner, "a job lost its runner");
                let Some(pause) = pause else { return Ok(None) };
                let failures = self
                    .shared
                    .store
                    .attempts()
                    .failure_history(&self.app, job.id)
                    .await?;
                let tier = RetryTier::at_least(pause);
                Ok(Some(Destination::NextAttempt(tier, failures)))
            }
            Unavailable::Spent => {
                self.quarantine(&held.decode_job()).await?;
                Ok(Some(Destination::Discard))
            }
            // Redis restarted without persistence; the message contains the whole job.
            Unavailable::Missing => {
                tracing::warn!(job.id = %job.id, "recorded a job again that redis had lost");
                self.shared.store.jobs().create(&held.decode_job()).await?;
                Ok(None)
            }
        }
    }
}
