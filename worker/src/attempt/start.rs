//! Starts a delivered job, or settles its message if the job cannot be started.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_process::clock::unix_ms;
use warmq_process::retry::until_known;
use warmq_store::{Start, StartSource};
use warmq_types::attempt::Lease;
use warmq_types::ids::Epoch;
use warmq_types::job::JobSpec;
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;

use super::Attempt;
use super::settle::Settlement;
use super::trace::AttemptTrace;
use crate::consumer::{JobDelivery, Source};
use crate::context::WorkerContext;
use crate::lease::{LeaseKeeper, StartedAttempt};
use crate::runner::{AfterDelivery, IncarnationEnd, Runner};

/// Timeout for the query whether any runner lists a model.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest delay of a job from the shared queue that needs a model of other runners.
const MAX_RETURN_DELAY: Duration = Duration::from_secs(30);

/// Starts the job. Otherwise settles its message and returns what follows.
pub(super) async fn start<'a>(
    runner: &mut Runner,
    context: &'a WorkerContext,
    epoch: Epoch,
    delivery: JobDelivery,
) -> Result<Attempt<'a>, AfterDelivery> {
    let source = delivery.source;
    let decoded = decode(context, &delivery);
    let mut settlement = Settlement::new(context, delivery);
    let job = match decoded {
        Ok(job) => job,
        Err(reason) => {
            settlement.dead_letter(&reason).await;
            return Err(AfterDelivery::Idle);
        }
    };
    let id = job.job.id;
    if source == Source::Shared && belongs_elsewhere(runner, &job.job).await {
        tracing::info!(
            runner = %runner.id, job.id = %id,
            "a job from the shared queue needs another runner's model: delaying it"
        );
        let waited_ms = unix_ms().saturating_sub(job.job.created_ms);
        let tier = return_delay(Duration::from_millis(waited_ms));
        settlement.delay(&job, tier).await;
        return Err(AfterDelivery::Idle);
    }
    tracing::debug!(runner = %runner.id, job.id = %id, "starting a job");
    // Subscribed before the start, so that no cancellation after it is missed.
    let cancellation = context.cancellations.listen(id);
    let lease = start_in_redis(runner, epoch, source, &job, &mut settlement).await?;
    let hint = job.job.hint.as_ref().map_or("", |hint| hint.as_str());
    tracing::info!(
        runner = %runner.id, job.id = %id, job.hint = hint,
        attempt = lease.map(|lease| lease.attempt), from = ?source,
        "job started"
    );
    let lost = CancellationToken::new();
    let started = StartedAttempt {
        runner: runner.id.clone(),
        epoch,
        job: job.job.clone(),
        since: Instant::now(),
    };
    Ok(Attempt {
        trace: AttemptTrace::begin(&context.traces, &started),
        keeper: LeaseKeeper::start(context, &started, lease, lost.clone()),
        context,
        job,
        started,
        settlement,
        cancellation,
        lost,
    })
}

/// Starts the job in Redis. Returns no lease if Redis is unreachable.
async fn start_in_redis(
    runner: &mut Runner,
    epoch: Epoch,
    source: Source,
    job: &JobMessage,
    settlement: &mut Settlement<'_>,
) -> Result<Option<Lease>, AfterDelivery> {
    let (context, id) = (&runner.context, job.job.id);
    let source = match source {
        Source::Own => StartSource::Claim,
        Source::Shared => StartSource::SharedQueue,
    };
    loop {
        // Waits for the answer: a job that was started and does not run would wait for its lease
        // to lapse.
        let started = until_known("starting a job", &context.stop, || {
            let (app, lease_ms) = (&context.config.app, context.intervals.lease_ms());
            (context.store.attempts()).start(app, id, &runner.id, epoch, lease_ms, source)
        });
        let Some(started) = runner.redis_grace.limit(started).await else {
            tracing::warn!(job.id = %id, "redis is unreachable: starting the job without a lease");
            return Ok(None);
        };
        let next = match started {
            Some(Start::Started(lease)) => return Ok(Some(lease)),
            Some(Start::Unavailable(reason)) => {
                settlement.unstarted(job, reason).await;
                match settlement.is_settled() {
                    true => return Err(AfterDelivery::Idle),
                    false => continue,
                }
            }
            Some(Start::Claimed) => AfterDelivery::AwaitClaimedJob,
            Some(Start::Draining) => AfterDelivery::End(IncarnationEnd::Drained),
            Some(Start::Stale) => AfterDelivery::End(IncarnationEnd::Unregistered),
            // The worker stops.
            None => AfterDelivery::Idle,
        };
        settlement.nack().await;
        return Err(next);
    }
}

/// Decodes the job, or returns the reason why the message is not a job of this app.
fn decode(context: &WorkerContext, delivery: &JobDelivery) -> Result<JobMessage, String> {
    let message = JobMessage::decode(delivery.body()).map_err(|error| error.to_string())?;
    let (app, found) = (&context.config.app, &message.job.app);
    match found == app {
        true => Ok(message),
        false => Err(format!("a job of app {found} in a queue of app {app}")),
    }
}

/// Returns whether this runner cannot load the job's model and another one can, or could lately.
/// Returns true while Redis is unreachable.
async fn belongs_elsewhere(runner: &Runner, job: &JobSpec) -> bool {
    let models = &runner.engine.description.models;
    let Some(hint) = &job.hint else { return false };
    if models.is_empty() || models.iter().any(|model| model == hint.as_str()) {
        return false;
    }
    let known = (runner.context.store.published()).is_model_known(&job.app, hint);
    let known = tokio::time::timeout(CATALOG_TIMEOUT, known).await;
    !matches!(known, Ok(Ok(false)))
}

/// Returns the delay before such a job is offered again: half of its waiting time, so that runners
/// without its model receive it ever more rarely.
fn return_delay(waited: Duration) -> RetryTier {
    RetryTier::at_most((waited / 2).min(MAX_RETURN_DELAY))
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
