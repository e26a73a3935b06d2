//! Where a job is safe: its end announced, or a confirmed copy of it elsewhere. Only then is its message acknowledged.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_broker::{DeadLetter, Message, PublishError};
use warmq_process::retry::until_success;
use warmq_store::RequeueCause;
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

/// How long a worker that stops tries to announce an end that is stored: the leader announces what is left.
const STOP_ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long noting may take what need not be noted.
const OUTBOX_TIMEOUT: Duration = Duration::from_secs(1);

impl WorkerContext {
    /// After the end of an attempt: says what became of the job and acknowledges. `state`: what this attempt made of it;
    /// `None` when its result was refused.
    pub(super) async fn settle(
        &self,
        job: &JobSpec,
        state: Option<JobState>,
        message: Option<JobDelivery>,
    ) {
        if let Some(state) = state {
            return self.announce_then_ack(job, state, message).await;
        }
        match self.store.job_of(&job.app, job.id).await {
            // Perhaps our own result, taken by a call whose answer was lost.
            Ok(Some(record)) if record.state.is_terminal() => {
                self.announce_then_ack(job, record.state, message).await;
            }
            // Somebody else has it, with a message of its own.
            Ok(Some(_)) => ack(message).await,
            // Redis lost it; this message may be all that is left of it.
            Ok(None) | Err(_) => nack(message).await,
        }
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
            () = self.stopped_for(STOP_ANNOUNCE_TIMEOUT) => None,
        };
        match announced {
            Some(()) => {
                ack(message).await;
                // Else the leader announces it once more.
                let noted = self.store.told(job);
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

    /// Publishes until the broker has the message, or refuses it whenever it is published. `None`: `stop` came first.
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

    /// Returns once the worker has been stopping for so long.
    async fn stopped_for(&self, long: Duration) {
        self.stop.cancelled().await;
        tokio::time::sleep(long).await;
    }

    /// Redis is away: the attempt's end goes to the router by the broker, which keeps it until Redis is back. The job fails
    /// if the broker never takes its end.
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
        tracing::warn!(job.id = %job, "Redis is away: a job's end goes by RabbitMQ");
        let since_ms = started.since_ms();
        let StartedAttempt {
            runner, epoch, job, ..
        } = started;
        let mut end =
            DeferredResult::new(job, (runner, epoch), since_ms, lease, (outcome, timings));
        let (what, queue) = (
            "sending a job's end",
            self.topology.deferred_results_queue(),
        );
        let mut sent = {
            let end = announce::message(end.job.id, &end);
            self.publish(what, &self.give_up, ("", &queue), &end).await
        };
        if let Some(Err(error)) = &sent {
            tracing::warn!(job.id = %end.job.id, %error, "a job's end is too large for RabbitMQ: the job fails");
            end.outcome = Outcome::Failed(JobError::too_large_to_keep(error));
            // The record has it; with it, this end may be too large as well.
            end.job.input = Value::Null;
            let end = announce::message(end.job.id, &end);
            sent = self.publish(what, &self.give_up, ("", &queue), &end).await;
        }
        match sent {
            Some(Ok(())) => ack(message).await,
            Some(Err(_)) | None => nack(message).await,
        }
    }

    /// Puts a copy of the job away for the tier's time, then acknowledges the message, if there is one.
    pub(super) async fn delay_then_ack(
        &self,
        job: &JobMessage,
        tier: RetryTier,
        message: impl Into<Option<JobDelivery>>,
    ) {
        let exchange = self.topology.retry_exchange(tier);
        self.republish_then_ack(job, &exchange, message).await;
    }

    /// Puts a copy of the job into an exchange that leads back to the dispatcher, then acknowledges the message, if there
    /// is one. A copy that has become too large for the broker goes without what its record has, too: the runners to avoid
    /// and the faults.
    pub(super) async fn republish_then_ack(
        &self,
        job: &JobMessage,
        exchange: &str,
        message: impl Into<Option<JobDelivery>>,
    ) {
        let message = message.into();
        let spec = &job.job;
        let key = self.topology.lane_key(&spec.app, spec.priority);
        let (what, to) = ("sending a job back", (exchange, key.as_str()));
        let copy = announce::message(spec.id, job).returned();
        let mut copied = self.publish(what, &self.stop, to, &copy).await;
        if let Some(Err(error)) = &copied {
            tracing::warn!(job.id = %spec.id, %error, "a job's message has become too large for RabbitMQ");
            let bare = JobMessage::new(spec.clone());
            let copy = announce::message(spec.id, &bare).returned();
            copied = self.publish(what, &self.stop, to, &copy).await;
        }
        match copied {
            Some(Ok(())) => ack(message).await,
            Some(Err(_)) | None => nack(message).await,
        }
    }

    /// Puts what is no job of ours into the app's dead-letter queue, with the reason.
    pub(super) async fn dead_letter(&self, delivery: JobDelivery, reason: &str) {
        tracing::warn!(
            reason,
            "a message can not be read; it goes to the dead-letter queue"
        );
        let queue = self.topology.dead_queue(&self.config.app);
        let letter = DeadLetter::new(delivery.body().to_vec(), reason).message();
        let buried = until_success("writing a dead letter", &self.stop, || {
            self.publisher.publish("", &queue, &letter)
        });
        match buried.await {
            Some(()) => delivery.ack().await,
            None => delivery.nack().await,
        }
    }

    /// The worker stops before the job's end: the job is queued again at once, and this attempt does not count.
    pub(super) async fn requeue_uncounted(
        &self,
        job: &JobMessage,
        lease: Option<Lease>,
        message: Option<JobDelivery>,
    ) {
        let spec = &job.job;
        let handed = async {
            let Some(Lease { fence, .. }) = lease else {
                return Err("it is not this runner's".to_owned());
            };
            let requeued = (self.store).requeue(&spec.app, spec.id, fence, RequeueCause::Uncounted);
            if !requeued.await.map_err(|error| error.to_string())? {
                return Err("it is no longer this runner's".to_owned());
            }
            let copy = announce::message(spec.id, job).returned();
            let key = self.topology.lane_key(&spec.app, spec.priority);
            self.publisher
                .publish(&self.topology.dispatch_exchange(), &key, &copy)
                .await
                .map_err(|error| error.to_string())
        };
        match handed.await {
            Ok(()) => {
                tracing::info!(job.id = %spec.id, "stopping: the job was given back unfinished");
                ack(message).await;
            }
            Err(reason) => {
                tracing::warn!(job.id = %spec.id, reason, "stopping: the job's message goes back");
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
