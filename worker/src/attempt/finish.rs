//! The end of an attempt, and how it is stored.

use std::time::Duration;

use warmq_process::retry::{self, until_success};
use warmq_store::{Finish, Finished, Ran, RunnerReport};
use warmq_types::attempt::{Lease, Outcome};
use warmq_types::hint::Hint;
use warmq_types::ids::Fence;
use warmq_types::job::{JobError, JobSpec, Timings};

use crate::context::WorkerContext;
use crate::lease::StartedAttempt;
use crate::runner::Runner;

/// A fence that no attempt has: the script stores only what the runner holds.
const NO_FENCE: Fence = Fence(0);

/// Delay after an attempt that timed out and was not counted because Redis was unreachable.
const RETRY_DELAY_WITHOUT_REDIS: Duration = Duration::from_secs(30);

/// How long the files of a step are kept, s: a week, in which its flow ends, and a day in which the
/// flow's result, which may refer to them, is kept.
const STEP_FILES_S: u64 = 8 * 24 * 3600;

/// Returns how long the job's files are kept although its record expires, s.
fn keep_files_s(job: &JobSpec) -> Option<u64> {
    job.links_s.max(job.step_of.as_ref().map(|_| STEP_FILES_S))
}

/// An attempt that ended.
pub(super) struct EndedAttempt {
    pub(super) started: StartedAttempt,
    /// `None` if Redis has not recorded the attempt yet.
    pub(super) lease: Option<Lease>,
    pub(super) outcome: Outcome,
    pub(super) timings: Timings,
    /// The model that ran, if it is not the job's hint.
    pub(super) model: Option<String>,
}

impl EndedAttempt {
    /// Returns the delay before the next attempt, `None` if this was the last one of the job's, or
    /// of `max_attempts`. Without Redis attempts are not counted, so the first retry is delayed as
    /// well.
    pub(super) fn delay_before_next(&self, max_attempts: u32) -> Option<Duration> {
        let max_attempts = self.started.job.max_attempts.min(max_attempts);
        match self.lease {
            Some(lease) => retry::before_next(lease.attempt, max_attempts),
            None => retry::before_next(1, max_attempts).map(|_| RETRY_DELAY_WITHOUT_REDIS),
        }
    }

    /// Stores the end and the runner's models. The result is refused if the job is no longer this
    /// attempt's.
    async fn store(
        &self,
        context: &WorkerContext,
        is_ours: bool,
        known: &[Hint],
        report: &RunnerReport,
        idle: bool,
    ) -> Result<Finished, warmq_store::Error> {
        let StartedAttempt {
            runner, epoch, job, ..
        } = &self.started;
        let lease = match self.lease {
            None if is_ours => self.started.record_start(context).await?,
            lease => lease,
        };
        if let (Some(keep_s), Outcome::Succeeded(_)) = (keep_files_s(job), &self.outcome) {
            let folder = format!("{}/{}", job.app, job.id);
            context.store.file_retention().keep(&folder, keep_s).await?;
        }
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
        context.store.attempts().finish(&finish).await
    }

    /// Returns the model that ran, as the engine reports it, otherwise the job's hint.
    fn ran(&self) -> Option<Hint> {
        match &self.model {
            Some(model) => Hint::parse(model).ok(),
            None => self.started.job.hint.clone(),
        }
    }

    /// Logs the end. `accepted`: the result was stored.
    fn log(&self, accepted: bool) {
        let (job, outcome) = (&self.started.job, &self.outcome);
        let Timings {
            warm,
            load_ms,
            run_ms,
            ..
        } = self.timings;
        let hint = job.hint.as_ref().map_or("", |hint| hint.as_str());
        let (runner, id) = (&self.started.runner, job.id);
        macro_rules! log {
            ($level:ident, $($event:tt)+) => {
                tracing::$level!(
                    %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms, $($event)+
                )
            };
        }
        match outcome {
            Outcome::Cancelled if !accepted => {
                log!(info, "job stopped: it was cancelled, or its lease was lost");
            }
            _ if !accepted => log!(warn, "result dropped: the job's lease was lost"),
            Outcome::Failed(error) if error.status >= 500 => {
                log!(warn, error = error.message, "job failed: runner fault");
            }
            Outcome::Failed(error) => log!(info, error = error.message, "job failed"),
            Outcome::Succeeded(_) | Outcome::Cancelled => log!(info, "job {}", outcome.state()),
        }
    }
}

/// Whether the end of an attempt is stored.
pub(super) enum Stored {
    Accepted {
        /// Its submitter expects a reply.
        has_reply_address: bool,
    },
    /// The job is no longer this attempt's.
    Rejected,
    /// The drain timeout elapsed first.
    GaveUp,
    RedisUnreachable,
}

/// Stores the attempt's end and the runner's models. `counts`: the end is the job's.
pub(super) async fn store(
    runner: &mut Runner,
    attempt: &EndedAttempt,
    counts: bool,
    idle: bool,
) -> Stored {
    let (context, report) = (&runner.context, &runner.engine.report);
    let stored = until_success("storing a result", &context.give_up, || {
        attempt.store(context, counts, &runner.recorded_hints, report, idle)
    });
    let finished = match runner.redis_grace.limit(stored).await {
        Some(Some(finished)) => finished,
        Some(None) => return Stored::GaveUp,
        None => return Stored::RedisUnreachable,
    };
    let evicted = report.left(&runner.recorded_hints).len();
    runner.metrics.evicted(evicted);
    runner.recorded_hints.clone_from(&report.hints);
    attempt.log(finished != Finished::Refused);
    match finished {
        Finished::Accepted { has_reply_address } => Stored::Accepted { has_reply_address },
        Finished::Refused => Stored::Rejected,
    }
}

pub(super) fn timeout_error(timeout: Duration) -> JobError {
    JobError::timeout(format!(
        "the attempt took longer than the {} s that the app's run_timeout allows",
        timeout.as_secs_f64()
    ))
}
