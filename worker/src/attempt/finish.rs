//! How an attempt ended, and how that is stored.

use std::time::Duration;

use warmq_process::retry;
use warmq_store::{Finish, Ran, RunnerReport};
use warmq_types::attempt::Lease;
use warmq_types::attempt::Outcome;
use warmq_types::hint::Hint;
use warmq_types::ids::Fence;
use warmq_types::job::{JobError, Timings};

use crate::context::WorkerContext;
use crate::lease::StartedAttempt;

/// The fence of a job that is no longer ours: no attempt has it, so nothing is stored but what the runner holds.
const NO_FENCE: Fence = Fence(0);

/// How long a job waits after an attempt that took too long and was not counted, Redis being away.
const RETRY_DELAY_WITHOUT_REDIS: Duration = Duration::from_secs(30);

/// An attempt that ended.
pub(super) struct EndedAttempt {
    pub(super) started: StartedAttempt,
    /// None if Redis does not know of it yet.
    pub(super) lease: Option<Lease>,
    pub(super) outcome: Outcome,
    pub(super) timings: Timings,
    /// The model that ran, where it is not the one that the job's hint names.
    pub(super) model: Option<String>,
}

impl EndedAttempt {
    /// How long the job waits after an attempt that took too long; `None` if it was the last. Without Redis nobody can
    /// count, and the first does not come again at once.
    pub(super) fn delay_before_next(&self) -> Option<Duration> {
        let max_attempts = self.started.job.max_attempts;
        match self.lease {
            Some(lease) => retry::before_next(lease.attempt, max_attempts),
            None => retry::before_next(1, max_attempts).map(|_| RETRY_DELAY_WITHOUT_REDIS),
        }
    }

    /// Stores the end, and what the runner holds. False: it was refused, as the job is not ours.
    pub(super) async fn store(
        &self,
        context: &WorkerContext,
        is_ours: bool,
        known: &[Hint],
        report: &RunnerReport,
        idle: bool,
    ) -> Result<bool, warmq_store::Error> {
        let StartedAttempt {
            runner, epoch, job, ..
        } = &self.started;
        let lease = match self.lease {
            None if is_ours => self.started.record_start(context).await?,
            lease => lease,
        };
        let finish = Finish {
            app: &job.app,
            job: job.id,
            runner,
            epoch: *epoch,
            fence: lease.map_or(NO_FENCE, |lease| lease.fence),
            outcome: &self.outcome,
            timings: self.timings,
            reported: known,
            report,
            ran: (self.ran())
                .filter(|_| matches!(self.outcome, Outcome::Succeeded(_)))
                .map(|hint| Ran {
                    hint,
                    timings: self.timings,
                }),
            idle,
        };
        context.store.finish(&finish).await
    }

    /// The model that ran: the engine knows it best.
    fn ran(&self) -> Option<Hint> {
        match &self.model {
            Some(model) => Hint::parse(model).ok(),
            None => self.started.job.hint.clone(),
        }
    }

    /// Logs how it ended. `accepted`: its result counts.
    pub(super) fn log(&self, accepted: bool) {
        let (job, outcome) = (&self.started.job, &self.outcome);
        let Timings {
            warm,
            load_ms,
            run_ms,
        } = self.timings;
        let hint = job.hint.as_ref().map_or("", |hint| hint.as_str());
        let (runner, id) = (&self.started.runner, job.id);
        match outcome {
            Outcome::Cancelled if !accepted => tracing::info!(
                %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
                "a job was stopped: it was cancelled, or is no longer this runner's"
            ),
            _ if !accepted => tracing::warn!(
                %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
                "a job's result was dropped: the job is no longer this runner's"
            ),
            Outcome::Failed(error) if error.status >= 500 => tracing::warn!(
                %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms, error = error.message,
                "a job failed by this runner's fault"
            ),
            Outcome::Failed(error) => tracing::info!(
                %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms, error = error.message,
                "a job failed by its own fault"
            ),
            Outcome::Succeeded(_) | Outcome::Cancelled => tracing::info!(
                %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
                "a job {}", outcome.state()
            ),
        }
    }
}

pub(super) fn timeout_error(timeout: Duration) -> JobError {
    JobError::timeout(format!(
        "the attempt took longer than the {} s that the app's run_timeout allows",
        timeout.as_secs_f64()
    ))
}
