//! Handles one delivery: starts the job, runs it, stores its end, then acknowledges the message.
//!
//! | module | what it does |
//! | --- | --- |
//! | this one | starts the job, or settles it if it cannot be started |
//! | `run` | runs the job to its end |
//! | `finish` | stores the end of an attempt |
//! | `retry` | requeues the job after a timeout or a fault |
//! | `settle` | announces or republishes the job, then acknowledges its message |
//!
//! Every path ends in one of two ways: the job's end is announced, a confirmed copy is queued, or
//! another runner has the job, and the message is acknowledged; or the message is returned to its
//! queue.

mod finish;
mod retry;
mod run;
mod settle;

use std::time::Duration;

use warmq_process::clock::unix_ms;
use warmq_process::retry::{until_known, until_success};
use warmq_store::{Loss, Start, StartSource, Unavailable};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;

use crate::consumer::{JobDelivery, Source};
use crate::context::WorkerContext;
use crate::incarnation::Incarnation;
use crate::runner::{AfterDelivery, IncarnationEnd, Runner};

/// Timeout for the query whether any runner lists a model.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest delay of a job from the shared queue that needs a model of other runners.
const MAX_RETURN_DELAY: Duration = Duration::from_secs(30);

/// Returns the delay before such a job is offered again: half of its waiting time, so that runners
/// without its model receive it ever more rarely.
fn return_delay(waited: Duration) -> RetryTier {
    RetryTier::at_most((waited / 2).min(MAX_RETURN_DELAY))
}

impl Runner {
    /// Handles one delivery.
    pub(crate) async fn handle_delivery(
        &mut self,
        incarnation: &mut Incarnation,
        delivery: JobDelivery,
    ) -> AfterDelivery {
        let job = match self.read(&delivery) {
            Ok(job) => job,
            Err(reason) => {
                self.context.dead_letter(delivery, &reason).await;
                return AfterDelivery::Idle;
            }
        };
        let message = job;
        if delivery.source == Source::Shared && self.belongs_elsewhere(&message.job).await {
            tracing::info!(
                runner = %self.id, job.id = %message.job.id,
                "a job from the shared queue needs another runner's model: delaying it"
            );
            let waited_ms = unix_ms().saturating_sub(message.job.created_ms);
            let tier = return_delay(Duration::from_millis(waited_ms));
            self.context.delay_then_ack(&message, tier, delivery).await;
            return AfterDelivery::Idle;
        }
        // Subscribed before the start, so that no cancellation after it is missed.
        let job = &message.job;
        let watch = self.context.cancellations.listen(job.id);
        loop {
            let WorkerContext {
                store,
                config,
                intervals,
                stop,
                ..
            } = &self.context;
            let source = match delivery.source {
                Source::Own => StartSource::Claim,
                Source::Shared => StartSource::SharedQueue,
            };
            // Waits for the answer: a job that was started and does not run would wait for its
            // lease to lapse.
            let start = until_known("starting a job", stop, || {
                let lease_ms = intervals.lease_ms();
                let epoch = incarnation.epoch;
                store
                    .attempts()
                    .start(&config.app, job.id, &self.id, epoch, lease_ms, source)
            });
            let start = match self.redis_grace.limit(start).await {
                Some(Some(start)) => start,
                Some(None) => {
                    delivery.nack().await;
                    return AfterDelivery::Idle;
                }
                None => {
                    tracing::warn!(job.id = %job.id, "redis is unreachable: starting the job without a lease");
                    return self
                        .run_job(incarnation, delivery, message, None, watch)
                        .await;
                }
            };
            let reason = match start {
                Start::Started(lease) => {
                    return self
                        .run_job(incarnation, delivery, message, Some(lease), watch)
                        .await;
                }
                Start::Claimed => {
                    delivery.nack().await;
                    return AfterDelivery::AwaitClaimedJob;
                }
                Start::Stale => {
                    delivery.nack().await;
                    return AfterDelivery::End(IncarnationEnd::Unregistered);
                }
                Start::Unavailable(reason) => reason,
            };
            match reason {
                Unavailable::Missing => {
                    tracing::warn!(job.id = %job.id, "redis has no record of the job: recording it again");
                    let created =
                        until_success("recording a job again", stop, || store.jobs().create(job));
                    if created.await.is_none() {
                        delivery.nack().await;
                        return AfterDelivery::Idle;
                    }
                }
                Unavailable::Terminal(state) => {
                    // The runner that ended it may have crashed before the announcement.
                    self.context
                        .announce_then_ack(job, state, Some(delivery))
                        .await;
                    return AfterDelivery::Idle;
                }
                Unavailable::Gone => {
                    tracing::info!(job.id = %job.id, "dropped a copy of a job that ended and whose record expired");
                    delivery.ack().await;
                    return AfterDelivery::Idle;
                }
                Unavailable::Damaged => {
                    let reason = "the job's record in redis is damaged";
                    self.context.dead_letter(delivery, reason).await;
                    return AfterDelivery::Idle;
                }
                Unavailable::Leased { remaining_ms } | Unavailable::Parked { remaining_ms } => {
                    let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                    self.context.delay_then_ack(&message, tier, delivery).await;
                    return AfterDelivery::Idle;
                }
                Unavailable::Lost => {
                    let lost = until_success("marking an attempt as lost", stop, || {
                        store.attempts().mark_lost(&config.app, job.id)
                    });
                    if let Some(Loss {
                        runner,
                        pause: Some(pause),
                        ..
                    }) = lost.await.flatten()
                    {
                        let tier = RetryTier::at_least(pause);
                        let context = &self.context;
                        let message = message.avoiding(runner);
                        context.delay_then_ack(&message, tier, delivery).await;
                        return AfterDelivery::Idle;
                    }
                }
                // The dispatcher quarantines such jobs.
                Unavailable::Spent => {
                    let exchange = self.context.topology.dispatch_exchange();
                    let context = &self.context;
                    context
                        .republish_then_ack(&message, &exchange, delivery)
                        .await;
                    return AfterDelivery::Idle;
                }
            }
        }
    }

    /// Returns whether this runner cannot load the job's model and another one can, or could
    /// lately. Returns true while Redis is unreachable.
    async fn belongs_elsewhere(&self, job: &JobSpec) -> bool {
        let models = &self.engine.description.models;
        let Some(hint) = &job.hint else { return false };
        if models.is_empty() || models.iter().any(|model| model == hint.as_str()) {
            return false;
        }
        let known = self.context.store.fleet().is_model_known(&job.app, hint);
        let known = tokio::time::timeout(CATALOG_TIMEOUT, known).await;
        !matches!(known, Ok(Ok(false)))
    }

    /// Decodes the job, or returns the reason why the message is not a job of this app.
    fn read(&self, delivery: &JobDelivery) -> Result<JobMessage, String> {
        let message = JobMessage::decode(delivery.body()).map_err(|error| error.to_string())?;
        let app = &self.context.config.app;
        if message.job.app == *app {
            Ok(message)
        } else {
            Err(format!(
                "a job of app {} in a queue of app {app}",
                message.job.app
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_waits_for_its_models_runners_comes_to_others_ever_more_rarely() {
        let mut waited = Duration::ZERO;
        let mut offers = 0;
        while waited < Duration::from_secs(600) {
            let delay = return_delay(waited).delay();
            assert!(delay <= (waited / 2).max(Duration::from_secs(1)));
            waited += delay;
            offers += 1;
        }
        assert_eq!(offers, 10 + 10 + 18);
    }
}
