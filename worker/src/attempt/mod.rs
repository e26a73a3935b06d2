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
use warmq_process::retry::until_known;
use warmq_store::{Start, StartSource};
use warmq_types::ids::Epoch;
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
        let message = match self.read(&delivery) {
            Ok(message) => message,
            Err(reason) => {
                self.context.dead_letter(delivery, &reason).await;
                return AfterDelivery::Idle;
            }
        };
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
        let cancellation = self.context.cancellations.listen(message.job.id);
        let mut delivery = delivery;
        loop {
            let lease = match self.start_job(incarnation.epoch, &message, &delivery).await {
                Some(Some(Start::Started(lease))) => Some(lease),
                Some(Some(Start::Claimed)) => {
                    delivery.nack().await;
                    return AfterDelivery::AwaitClaimedJob;
                }
                Some(Some(Start::Stale)) => {
                    delivery.nack().await;
                    return AfterDelivery::End(IncarnationEnd::Unregistered);
                }
                Some(Some(Start::Unavailable(reason))) => {
                    let context = &self.context;
                    match context.settle_unstarted(reason, &message, delivery).await {
                        Some(unsettled) => delivery = unsettled,
                        None => return AfterDelivery::Idle,
                    }
                    continue;
                }
                Some(None) => {
                    delivery.nack().await;
                    return AfterDelivery::Idle;
                }
                None => {
                    tracing::warn!(job.id = %message.job.id, "redis is unreachable: starting the job without a lease");
                    None
                }
            };
            return self
                .run_job(incarnation, delivery, message, lease, cancellation)
                .await;
        }
    }

    /// Starts the job in Redis. Returns `None` if Redis did not answer within the grace,
    /// `Some(None)` if the worker stops.
    async fn start_job(
        &mut self,
        epoch: Epoch,
        message: &JobMessage,
        delivery: &JobDelivery,
    ) -> Option<Option<Start>> {
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
        // Waits for the answer: a job that was started and does not run would wait for its lease to
        // lapse.
        let start = until_known("starting a job", stop, || {
            let lease_ms = intervals.lease_ms();
            store.attempts().start(
                &config.app,
                message.job.id,
                &self.id,
                epoch,
                lease_ms,
                source,
            )
        });
        self.redis_grace.limit(start).await
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
