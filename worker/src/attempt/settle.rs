//! Settles the message of a job: it is acknowledged only when the job's end is announced or a
//! confirmed copy of the job is queued elsewhere.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_broker::{DeadLetter, Message, PublishError};
use warmq_process::retry::until_success;
use warmq_store::{Loss, RequeueCause, Unavailable};
use warmq_types::attempt::Lease;
use warmq_types::attempt::Outcome;
use warmq_types::job::{JobError, JobSpec};
use warmq_types::message::{DeferredResult, JobMessage};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

use super::finish::EndedAttempt;
use crate::announce;
use crate::consumer::JobDelivery;
use crate::context::WorkerContext;
use crate::lease::StartedAttempt;

/// Timeout for announcing a stored end while the worker stops. The leader announces what is left.
const STOP_ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for removing an outbox entry. The leader announces it again otherwise.
const OUTBOX_TIMEOUT: Duration = Duration::from_secs(1);

impl WorkerContext {
    /// Announces the job's end and acknowledges its message. `state` is the state that this attempt
    /// stored, `None` if its result was rejected.
    pub(super) async fn settle(
        &self,
        job: &JobSpec,
        state: Option<JobState>,
        message: Option<JobDelivery>,
    ) {
        if let Some(state) = state {
            return self.announce_then_ack(job, state, message).await;
        }
        match self.store.jobs().job_of(&job.app, job.id).await {
            // Possibly this attempt's own result, stored by a call whose answer was lost.
            Ok(Some(record)) if record.state.is_terminal() => {
                self.announce_then_ack(job, record.state, message).await;
            }
            // Another runner has the job, with a message of its own.
            Ok(Some(_)) => ack(message).await,
            // Redis has lost the record; this message may be the only copy of the job.
            Ok(None) | Err(_) => nack(message).await,
        }
    }

    /// Settles the message of a job that cannot be started. Returns the delivery if the start is to
    /// be retried, `None` if the message was acknowledged or returned.
    pub(super) async fn settle_unstarted(
        &self,
        reason: Unavailable,
        message: &JobMessage,
        delivery: JobDelivery,
    ) -> Option<JobDelivery> {
        let job = &message.job;
        match reason {
            Unavailable::Missing => {
                tracing::warn!(job.id = %job.id, "redis has no record of the job: recording it again");
                let created = until_success("recording a job again", &self.stop, || {
                    self.store.jobs().create(job)
                });
                if created.await.is_some() {
                    return Some(delivery);
                }
                delivery.nack().await;
            }
            Unavailable::Terminal(state) => {
                // The runner that ended it may have crashed before the announcement.
                self.announce_then_ack(job, state, Some(delivery)).await;
            }
            Unavailable::Gone => {
                tracing::info!(job.id = %job.id, "dropped a copy of a job that ended and whose record expired");
                delivery.ack().await;
            }
            Unavailable::Damaged => {
                let reason = "the job's record in redis is damaged";
                self.dead_letter(delivery, reason).await;
            }
            Unavailable::Leased { remaining_ms } | Unavailable::Parked { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                self.delay_then_ack(message, tier, delivery).await;
            }
            Unavailable::Lost => {
                let lost = until_success("marking an attempt as lost", &self.stop, || {
                    self.store.attempts().mark_lost(&self.config.app, job.id)
                });
                let Some(Loss {
                    runner,
                    pause: Some(pause),
                    ..
                }) = lost.await.flatten()
                else {
                    return Some(delivery);
                };
                let message = message.clone().avoiding(runner);
                let tier = RetryTier::at_least(pause);
                self.delay_then_ack(&message, tier, delivery).await;
            }
            // The dispatcher quarantines such jobs.
            Unavailable::Spent => {
                let exchange = self.topology.dispatch_exchange();
                self.republish_then_ack(message, &exchange, delivery).await;
            }
        }
        None
    }

    pub(super) async fn announce_then_ack(
        &self,
        job: &JobSpec,
        state: JobState,
        message: Option<JobDelivery>,
    ) {
        let announced = until_success("announcing a job's end", &self.give_up, || {
            announce::announce(self, job, state)
        });
        let announced = tokio::select! {
            announced = announced => announced,
            () = self.after_stop(STOP_ANNOUNCE_TIMEOUT) => None,
        };
        match announced {
            Some(()) => {
                ack(message).await;
                // Otherwise the leader announces it once more.
                let noted = self.store.outbox().remove(job);
                if !matches!(
                    tokio::time::timeout(OUTBOX_TIMEOUT, noted).await,
                    Ok(Ok(()))
                ) {
                    tracing::debug!(job.id = %job.id, "could not note that an end was announced");
                }
            }
            None => nack(message).await,
        }
    }

    /// Publishes until the broker confirms, or rejects the message for good. Returns `None` if
    /// `stop` was cancelled first.
    async fn publish(
        &self,
        what: &str,
        stop: &CancellationToken,
        (exchange, key): (&str, &str),
        message: &Message,
    ) -> Option<Result<(), PublishError>> {
        let published = until_success(what, stop, || async {
            match self.publisher.publish(exchange, key, message).await {
                Err(error) if error.is_unacceptable() => Ok(Err(error)),
                published => published.map(Ok),
            }
        });
        published.await
    }

    /// Waits for the stop signal, then for `delay`.
    async fn after_stop(&self, delay: Duration) {
        self.stop.cancelled().await;
        tokio::time::sleep(delay).await;
    }

    /// Publishes the attempt's end as a deferred result, which RabbitMQ keeps until Redis is
    /// reachable. The job fails if its end is too large for the broker.
    pub(super) async fn defer_result_then_ack(
        &self,
        attempt: EndedAttempt,
        message: Option<JobDelivery>,
    ) {
        let EndedAttempt {
            started,
            lease,
            outcome,
            timings,
            model: _,
        } = attempt;
        let job = started.job.id;
        tracing::warn!(job.id = %job, "redis is unreachable: publishing the job's end to RabbitMQ");
        let since_ms = started.since_ms();
        let StartedAttempt {
            runner, epoch, job, ..
        } = started;
        let mut end =
            DeferredResult::new(job, (runner, epoch), since_ms, lease, (outcome, timings));
        let (what, queue) = (
            "publishing a deferred result",
            self.topology.deferred_results_queue(),
        );
        let mut sent = {
            let end = announce::message(end.job.id, &end);
            self.publish(what, &self.give_up, ("", &queue), &end).await
        };
        if let Some(Err(error)) = &sent {
            tracing::warn!(job.id = %end.job.id, %error, "the job's end is too large for RabbitMQ: the job fails");
            end.outcome = Outcome::Failed(JobError::too_large_to_keep(error));
            // The record has the input; with it, this end may be too large as well.
            end.job.input = Value::Null;
            let end = announce::message(end.job.id, &end);
            sent = self.publish(what, &self.give_up, ("", &queue), &end).await;
        }
        match sent {
            Some(Ok(())) => ack(message).await,
            Some(Err(_)) | None => nack(message).await,
        }
    }

    /// Publishes a copy of the job to a retry tier, then acknowledges the message, if any.
    pub(super) async fn delay_then_ack(
        &self,
        job: &JobMessage,
        tier: RetryTier,
        message: impl Into<Option<JobDelivery>>,
    ) {
        let exchange = self.topology.retry_exchange(tier);
        self.republish_then_ack(job, &exchange, message).await;
    }

    /// Publishes a copy of the job to an exchange that leads back to the dispatcher, then
    /// acknowledges the message, if any. A copy that is too large for the broker is published
    /// without the avoid list and the faults, which the record has as well.
    pub(super) async fn republish_then_ack(
        &self,
        job: &JobMessage,
        exchange: &str,
        message: impl Into<Option<JobDelivery>>,
    ) {
        let message = message.into();
        let spec = &job.job;
        let key = self.topology.lane_key(&spec.app, spec.priority);
        let (what, to) = ("republishing a job", (exchange, key.as_str()));
        let copy = announce::message(spec.id, job).returned();
        let mut copied = self.publish(what, &self.stop, to, &copy).await;
        if let Some(Err(error)) = &copied {
            tracing::warn!(job.id = %spec.id, %error, "the job's message is too large for RabbitMQ: dropping its avoid list and faults");
            let bare = JobMessage::new(spec.clone());
            let copy = announce::message(spec.id, &bare).returned();
            copied = self.publish(what, &self.stop, to, &copy).await;
        }
        match copied {
            Some(Ok(())) => ack(message).await,
            Some(Err(_)) | None => nack(message).await,
        }
    }

    /// Moves a message that is not a job of this app to the dead-letter queue, with the reason.
    pub(super) async fn dead_letter(&self, delivery: JobDelivery, reason: &str) {
        tracing::warn!(
            reason,
            "a message is not a valid job: moving it to the dead-letter queue"
        );
        let queue = self.topology.dead_queue(&self.config.app);
        let letter = DeadLetter::new(delivery.body().to_vec(), reason).message();
        let published = until_success("writing a dead letter", &self.stop, || {
            self.publisher.publish("", &queue, &letter)
        });
        match published.await {
            Some(()) => delivery.ack().await,
            None => delivery.nack().await,
        }
    }

    /// Requeues a job that did not end before the drain timeout, without counting this attempt.
    pub(super) async fn requeue_uncounted(
        &self,
        job: &JobMessage,
        lease: Option<Lease>,
        message: Option<JobDelivery>,
    ) {
        let spec = &job.job;
        let requeued = async {
            let Some(Lease { fence, .. }) = lease else {
                return Err("the job is not leased to this runner".to_owned());
            };
            let accepted =
                (self.store)
                    .attempts()
                    .requeue(&spec.app, spec.id, fence, RequeueCause::Uncounted);
            if !accepted.await.map_err(|error| error.to_string())? {
                return Err("the job is no longer leased to this runner".to_owned());
            }
            let copy = announce::message(spec.id, job).returned();
            let key = self.topology.lane_key(&spec.app, spec.priority);
            self.publisher
                .publish(&self.topology.dispatch_exchange(), &key, &copy)
                .await
                .map_err(|error| error.to_string())
        };
        match requeued.await {
            Ok(()) => {
                tracing::info!(job.id = %spec.id, "stopping: requeued the unfinished job");
                ack(message).await;
            }
            Err(reason) => {
                tracing::warn!(job.id = %spec.id, reason, "stopping: returning the job's message");
                nack(message).await;
            }
        }
    }
}

pub(super) async fn ack(message: Option<JobDelivery>) {
    if let Some(delivery) = message {
        delivery.ack().await;
    }
}

pub(super) async fn nack(message: Option<JobDelivery>) {
    if let Some(delivery) = message {
        delivery.nack().await;
    }
}
