//! Settles the message of a job: it is acknowledged only when the job's end is announced or a
//! confirmed copy of the job is queued elsewhere.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_broker::{DeadLetter, Message, PublishError};
use warmq_process::retry::until_success;
use warmq_store::{Loss, RequeueCause, Unavailable};
use warmq_types::attempt::{Lease, Outcome};
use warmq_types::job::{JobError, JobSpec};
use warmq_types::message::{DeferredResult, JobMessage};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

use super::finish::{EndedAttempt, Stored};
use super::retry::Requeue;
use crate::announce;
use crate::consumer::JobDelivery;
use crate::context::WorkerContext;
use crate::lease::StartedAttempt;

/// Timeout for announcing a stored end while the worker stops. The leader announces what is left.
const STOP_ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);

/// The settlement of one message. Once it is settled, further acks and nacks do nothing.
pub(super) struct Settlement<'a> {
    context: &'a WorkerContext,
    /// The message, until it is acknowledged or returned.
    delivery: Option<JobDelivery>,
}

impl<'a> Settlement<'a> {
    pub(super) fn new(context: &'a WorkerContext, delivery: JobDelivery) -> Self {
        Self {
            context,
            delivery: Some(delivery),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.delivery.is_none()
    }

    async fn ack(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.ack().await;
        }
    }

    pub(super) async fn nack(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.nack().await;
        }
    }

    /// Acknowledges the message if a copy of the job or its end is `confirmed`, otherwise returns
    /// it.
    async fn ack_if(&mut self, confirmed: bool) {
        match confirmed {
            true => self.ack().await,
            false => self.nack().await,
        }
    }

    /// Settles the message of a job that cannot be started, unless the start is to be retried.
    pub(super) async fn unstarted(&mut self, message: &JobMessage, reason: Unavailable) {
        let (context, job) = (self.context, &message.job);
        match reason {
            Unavailable::Missing => {
                tracing::warn!(
                    job.id = %job.id,
                    "redis has no record of the job: recording it again"
                );
                let created = until_success("recording a job again", &context.stop, || {
                    context.store.jobs().create(job)
                });
                if created.await.is_none() {
                    self.nack().await;
                }
            }
            // The runner that ended it may have crashed before the announcement.
            Unavailable::Terminal(state) => self.announce(job, state, true).await,
            Unavailable::Gone => {
                tracing::info!(
                    job.id = %job.id,
                    "dropped a copy of a job that ended and whose record expired"
                );
                self.ack().await;
            }
            Unavailable::Damaged => {
                let reason = "the job's record in redis is damaged";
                self.dead_letter(reason).await;
            }
            Unavailable::Leased { remaining_ms } | Unavailable::Parked { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                self.delay(message, tier).await;
            }
            Unavailable::Lost => {
                let lost = until_success("marking an attempt as lost", &context.stop, || {
                    (context.store.attempts()).mark_lost(&context.config.app, job.id)
                });
                if let Some(Loss {
                    runner,
                    pause: Some(pause),
                    ..
                }) = lost.await.flatten()
                {
                    let message = message.clone().avoiding(runner);
                    self.delay(&message, RetryTier::at_least(pause)).await;
                }
            }
            // The dispatcher quarantines such jobs.
            Unavailable::Spent => {
                let exchange = context.topology.dispatch_exchange();
                self.republish(message, &exchange).await;
            }
        }
    }

    /// Moves a message that is not a job of this app to the dead-letter queue, with the reason.
    pub(super) async fn dead_letter(&mut self, reason: &str) {
        tracing::warn!(
            reason,
            "a message is not a valid job: moving it to the dead-letter queue"
        );
        let context = self.context;
        let Some(delivery) = &self.delivery else {
            return;
        };
        let queue = context.topology.dead_queue(&context.config.app);
        let letter = DeadLetter::new(delivery.body().to_vec(), reason).message();
        let published = until_success("writing a dead letter", &context.stop, || {
            context.publisher.publish("", &queue, &letter)
        });
        let published = published.await.is_some();
        self.ack_if(published).await;
    }

    /// Settles the message of an attempt that ended. `counts`: the end is the job's.
    pub(super) async fn ended(&mut self, attempt: EndedAttempt, stored: Stored, counts: bool) {
        let job = &attempt.started.job;
        match stored {
            Stored::Accepted { has_reply_address } => {
                self.announce(job, attempt.outcome.state(), has_reply_address)
                    .await;
            }
            Stored::Rejected => self.rejected(job).await,
            Stored::GaveUp => {
                tracing::error!(
                    job.id = %job.id,
                    "stopping while redis is unreachable: another runner will run the job again"
                );
                self.nack().await;
            }
            Stored::RedisUnreachable if counts => self.defer_result(attempt).await,
            // The end is recorded, or another runner has the job.
            Stored::RedisUnreachable => self.ack().await,
        }
    }

    /// Settles the message of an attempt whose result was rejected.
    async fn rejected(&mut self, job: &JobSpec) {
        match self.context.store.jobs().job_of(&job.app, job.id).await {
            // Possibly this attempt's own result, stored by a call whose answer was lost.
            Ok(Some(record)) if record.state.is_terminal() => {
                self.announce(job, record.state, true).await;
            }
            // Another runner has the job, with a message of its own.
            Ok(Some(_)) => self.ack().await,
            // Redis has lost the record; this message may be the only copy of the job.
            Ok(None) | Err(_) => self.nack().await,
        }
    }

    /// Announces the job's end if a role needs its event, then acknowledges the message and removes
    /// the outbox entry. `has_reply_address`: the submitter expects a reply, or may.
    async fn announce(&mut self, job: &JobSpec, state: JobState, has_reply_address: bool) {
        let context = self.context;
        let Some(key) = (context.topology).event_key(job, state, has_reply_address) else {
            return self.ack().await;
        };
        let announced = until_success("announcing a job's end", &context.give_up, || {
            announce::announce(context, job, state, &key)
        });
        let stopped = async {
            context.stop.cancelled().await;
            tokio::time::sleep(STOP_ANNOUNCE_TIMEOUT).await;
        };
        let announced = tokio::select! {
            announced = announced => announced.is_some(),
            () = stopped => false,
        };
        self.ack_if(announced).await;
        if announced {
            context.store.outbox().remove(&job.app, job.id);
        }
    }

    /// Publishes the attempt's end as a deferred result, which RabbitMQ keeps until Redis is
    /// reachable, then acknowledges the message. The job fails if its end is too large for the
    /// broker.
    async fn defer_result(&mut self, attempt: EndedAttempt) {
        let EndedAttempt {
            started,
            lease,
            outcome,
            timings,
            model: _,
        } = attempt;
        let id = started.job.id;
        tracing::warn!(
            job.id = %id,
            "redis is unreachable: publishing the job's end to RabbitMQ"
        );
        let since_ms = started.since_ms();
        let StartedAttempt {
            runner, epoch, job, ..
        } = started;
        let mut end =
            DeferredResult::new(job, (runner, epoch), since_ms, lease, (outcome, timings));
        let (context, queue) = (self.context, self.context.topology.deferred_results_queue());
        let publication = Publication {
            what: "publishing a deferred result",
            exchange: "",
            key: &queue,
            stop: &context.give_up,
        };
        let mut sent = publication
            .publish(context, &announce::message(id, &end))
            .await;
        if let Some(Err(error)) = &sent {
            tracing::warn!(
                job.id = %id, %error,
                "the job's end is too large for RabbitMQ: the job fails"
            );
            end.outcome = Outcome::Failed(JobError::too_large_to_keep(error));
            // The record has the input; with it, this end may be too large as well.
            end.job.input = Value::Null;
            sent = publication
                .publish(context, &announce::message(id, &end))
                .await;
        }
        self.ack_if(matches!(sent, Some(Ok(())))).await;
    }

    /// Requeues the job after a delay. The message is not settled if the job is no longer this
    /// attempt's.
    pub(super) async fn requeue_later(&mut self, attempt: &EndedAttempt, requeue: &Requeue) {
        let (context, spec) = (self.context, &requeue.job.job);
        let cause = RequeueCause::Counted {
            reason: &requeue.reason,
            fault: requeue.fault.as_ref(),
        };
        if let Some(Lease { fence, .. }) = attempt.lease {
            let requeued = until_success("requeueing a job", &context.give_up, || {
                (context.store.attempts()).requeue(&spec.app, spec.id, fence, cause)
            });
            if requeued.await != Some(true) {
                return;
            }
        }
        tracing::warn!(
            runner = %attempt.started.runner, job.id = %spec.id, ?cause,
            retry_in_ms = requeue.tier.delay().as_millis() as u64,
            "attempt failed: the job is requeued"
        );
        // If the message is settled, a copy is already in a retry tier, with a much longer delay.
        self.delay(&requeue.job, requeue.tier).await;
    }

    /// Requeues a job that did not end before the drain timeout, without counting this attempt.
    pub(super) async fn requeue_uncounted(&mut self, job: &JobMessage, lease: Option<Lease>) {
        let (context, spec) = (self.context, &job.job);
        let requeued = async {
            let Some(Lease { fence, .. }) = lease else {
                return Err("the job is not leased to this runner".to_owned());
            };
            let cause = RequeueCause::Uncounted;
            let accepted = (context.store.attempts()).requeue(&spec.app, spec.id, fence, cause);
            if !accepted.await.map_err(|error| error.to_string())? {
                return Err("the job is no longer leased to this runner".to_owned());
            }
            let copy = announce::message(spec.id, job).returned();
            let exchange = context.topology.dispatch_exchange();
            let key = context.topology.lane_key(&spec.app, spec.priority);
            let published = context.publisher.publish(&exchange, &key, &copy);
            published.await.map_err(|error| error.to_string())
        };
        let requeued = requeued.await;
        match &requeued {
            Ok(()) => tracing::info!(job.id = %spec.id, "stopping: requeued the unfinished job"),
            Err(reason) => {
                tracing::warn!(job.id = %spec.id, reason, "stopping: returning the job's message");
            }
        }
        self.ack_if(requeued.is_ok()).await;
    }

    /// Publishes a copy of the job to a retry tier, then acknowledges the message.
    pub(super) async fn delay(&mut self, job: &JobMessage, tier: RetryTier) {
        let exchange = self.context.topology.retry_exchange(tier);
        self.republish(job, &exchange).await;
    }

    /// Publishes a copy of the job to an exchange that leads back to the dispatcher, then
    /// acknowledges the message. A copy that is too large for the broker is published without the
    /// avoid list and the faults, which the record has as well.
    async fn republish(&mut self, job: &JobMessage, exchange: &str) {
        let (context, spec) = (self.context, &job.job);
        let publication = Publication {
            what: "republishing a job",
            exchange,
            key: &context.topology.lane_key(&spec.app, spec.priority),
            stop: &context.stop,
        };
        let copy = announce::message(spec.id, job).returned();
        let mut copied = publication.publish(context, &copy).await;
        if let Some(Err(error)) = &copied {
            tracing::warn!(
                job.id = %spec.id, %error,
                "the job's message is too large for RabbitMQ: dropping its avoid list and faults"
            );
            let copy = announce::message(spec.id, &JobMessage::new(spec.clone())).returned();
            copied = publication.publish(context, &copy).await;
        }
        self.ack_if(matches!(copied, Some(Ok(())))).await;
    }
}

/// Where and until when a message is published.
struct Publication<'a> {
    /// The operation, for the log.
    what: &'a str,
    exchange: &'a str,
    key: &'a str,
    stop: &'a CancellationToken,
}

impl Publication<'_> {
    /// Publishes until the broker confirms, or rejects the message for good. Returns `None` if
    /// `stop` was cancelled first.
    async fn publish(
        &self,
        context: &WorkerContext,
        message: &Message,
    ) -> Option<Result<(), PublishError>> {
        let published = until_success(self.what, self.stop, || async {
            let published = context.publisher.publish(self.exchange, self.key, message);
            match published.await {
                Err(error) if error.is_unacceptable() => Ok(Err(error)),
                published => published.map(Ok),
            }
        });
        published.await
    }
}
