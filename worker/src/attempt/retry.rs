//! Decides what follows a run: its end is stored, or the job gets another attempt.

use std::collections::BTreeSet;
use std::time::Duration;

use warmq_types::attempt::Outcome;
use warmq_types::fault::{FaultKind, RunnerFault};
use warmq_types::ids::RunnerId;
use warmq_types::job::JobError;
use warmq_types::message::JobMessage;
use warmq_types::retry_tier::RetryTier;
use warmq_types::text::shortened;

use super::finish::{EndedAttempt, timeout_error};
use super::run::RunEnd;
use crate::context::WorkerContext;
use crate::fault::Fault;

/// Faults of one class on healthy runners (distinct ones, if there are as many) after which the job
/// itself fails.
const MAX_FAULTS_PER_KIND: usize = 3;

/// Attempts of a job whose input names something unavailable: each may occupy a runner until the
/// fetch times out.
const MAX_UNAVAILABLE_ATTEMPTS: u32 = 5;

/// Length limit of a job's error, bytes.
const MAX_ERROR_BYTES: usize = 296;

/// fal's `error_type` for faults of runners.
const RUNNER_ERROR: &str = "runner_server_error";

/// Timeout for best-effort queries.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// What follows a run.
pub(super) enum FollowUp {
    /// The attempt's end is stored.
    Store(Outcome),
    /// The job needs another attempt.
    Retry(RetryReason),
    /// The drain timeout stopped the run: the attempt does not count.
    RequeueUncounted,
}

impl FollowUp {
    /// Decides what follows. `timed_out`: the job's `run_timeout`, if it elapsed; `is_ours`: the
    /// job is still this attempt's; `healthy`: the runner passed its self-test.
    pub(super) fn of(
        end: RunEnd,
        timed_out: Option<Duration>,
        is_ours: bool,
        healthy: bool,
    ) -> Self {
        match (end, timed_out) {
            (RunEnd::Outcome(outcome), _) => Self::Store(outcome),
            _ if !is_ours => Self::Store(Outcome::Cancelled),
            (RunEnd::Stopped, None) => Self::RequeueUncounted,
            (RunEnd::Stopped, Some(timeout)) => Self::Retry(RetryReason::TimedOut(timeout)),
            (RunEnd::Unavailable(error), _) => Self::Retry(RetryReason::Unavailable(error)),
            (RunEnd::Fault(fault), Some(timeout)) if fault.kind == FaultKind::Hang => {
                Self::Retry(RetryReason::TimedOut(timeout))
            }
            (RunEnd::Fault(fault), _) => Self::Retry(RetryReason::Fault { fault, healthy }),
        }
    }
}

/// Why the job needs another attempt.
pub(super) enum RetryReason {
    /// The attempt exceeded the job's `run_timeout`.
    TimedOut(Duration),
    /// Something that the input names is unavailable for now.
    Unavailable(JobError),
    /// The runner met a fault. `healthy`: its self-test passed right afterwards.
    Fault { fault: Fault, healthy: bool },
}

impl RetryReason {
    /// Returns the entry in the job's log.
    fn reason(&self) -> String {
        match self {
            Self::TimedOut(_) => "the attempt timed out".to_owned(),
            Self::Unavailable(error) => error.message.clone(),
            Self::Fault { fault, .. } => {
                format!("its runner failed ({}): {}", fault.kind, fault.message)
            }
        }
    }

    /// Returns the fault, if it may be the job's because the runner is healthy.
    fn fault_of(&self, runner: &RunnerId) -> Option<RunnerFault> {
        match self {
            Self::Fault {
                fault,
                healthy: true,
            } => Some(RunnerFault {
                runner: runner.clone(),
                kind: fault.kind,
                message: fault.message.clone(),
            }),
            Self::Fault { .. } | Self::TimedOut(_) | Self::Unavailable(_) => None,
        }
    }

    /// Returns the job's error after its last attempt.
    fn error(self) -> JobError {
        match self {
            Self::TimedOut(timeout) => timeout_error(timeout),
            Self::Unavailable(error) => error,
            Self::Fault { fault, .. } => JobError::internal(RUNNER_ERROR, fault.message),
        }
    }
}

/// A job that gets another attempt.
pub(super) struct Requeue {
    /// The job, with this runner on its avoid list.
    pub(super) job: JobMessage,
    /// The entry in the job's log.
    pub(super) reason: String,
    /// The runner's fault, if it may be the job's.
    pub(super) fault: Option<RunnerFault>,
    pub(super) tier: RetryTier,
}

/// Decides whether the job gets another attempt, on another runner if there is one.
///
/// # Errors
/// The job fails: this was its last attempt, or faults repeat.
pub(super) async fn next_attempt(
    context: &WorkerContext,
    attempt: &EndedAttempt,
    retry: RetryReason,
    job: JobMessage,
) -> Result<Requeue, JobError> {
    let runner = &attempt.started.runner;
    let job = with_recorded_faults(context, job).await;
    let mut job = job.avoiding(runner.clone());
    let fault = retry.fault_of(runner);
    if let Some(fault) = &fault {
        job.faults.push(fault.clone());
        let healthy = healthy_runners(context).await;
        if let Some(error) = job_error_if_repeated(&job.faults, fault.kind, healthy) {
            return Err(error);
        }
    }
    let max_attempts = match &retry {
        RetryReason::Unavailable(_) => MAX_UNAVAILABLE_ATTEMPTS,
        RetryReason::TimedOut(_) | RetryReason::Fault { .. } => u32::MAX,
    };
    match attempt.delay_before_next(max_attempts) {
        Some(delay) => Ok(Requeue {
            job,
            reason: retry.reason(),
            fault,
            tier: RetryTier::at_least(delay),
        }),
        None => Err(retry.error()),
    }
}

/// Adds the avoid list and faults of the record to the message, if Redis is reachable: the message
/// may be a fresh one.
async fn with_recorded_faults(context: &WorkerContext, message: JobMessage) -> JobMessage {
    let job = &message.job;
    let failures = context.store.attempts().failure_history(&job.app, job.id);
    match tokio::time::timeout(QUERY_TIMEOUT, failures).await {
        Ok(Ok(failures)) => message.with(failures),
        _ => message,
    }
}

/// Returns the number of healthy runners, or the limit if Redis is unreachable.
async fn healthy_runners(context: &WorkerContext) -> usize {
    let counts = context.store.runners().counts(&context.config.app);
    match tokio::time::timeout(QUERY_TIMEOUT, counts).await {
        Ok(Ok(counts)) => usize::try_from(counts.live.saturating_sub(counts.faulty)).unwrap_or(0),
        _ => MAX_FAULTS_PER_KIND,
    }
}

/// Returns the job's error if it met as many faults of this class, on enough distinct runners.
fn job_error_if_repeated(
    faults: &[RunnerFault],
    kind: FaultKind,
    healthy_runners: usize,
) -> Option<JobError> {
    let same = || faults.iter().filter(|fault| fault.kind == kind);
    let runners: BTreeSet<&RunnerId> = same().map(|fault| &fault.runner).collect();
    let different = MAX_FAULTS_PER_KIND.min(healthy_runners).max(1);
    if same().count() < MAX_FAULTS_PER_KIND || runners.len() < different {
        return None;
    }
    let names: Vec<&str> = runners.iter().map(|runner| runner.as_str()).collect();
    let reasons: BTreeSet<&str> = same().map(|fault| fault.message.as_str()).collect();
    let reasons: Vec<&str> = reasons.into_iter().collect();
    let message = format!(
        "failed {} times with the same fault: {} (on {})",
        same().count(),
        reasons.join("; "),
        names.join(", ")
    );
    Some(JobError::internal(
        RUNNER_ERROR,
        shortened(message, MAX_ERROR_BYTES),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_the_drain_timeout_stopped_does_not_count() {
        let of = |timed_out, is_ours| FollowUp::of(RunEnd::Stopped, timed_out, is_ours, true);
        assert!(matches!(of(None, true), FollowUp::RequeueUncounted));
        let timed_out = of(Some(Duration::ZERO), true);
        assert!(matches!(
            timed_out,
            FollowUp::Retry(RetryReason::TimedOut(_))
        ));
        let lost = of(None, false);
        assert!(matches!(lost, FollowUp::Store(Outcome::Cancelled)));
    }

    fn fault(runner: &str, kind: FaultKind) -> RunnerFault {
        RunnerFault {
            runner: RunnerId::parse(runner).unwrap(),
            kind,
            message: "the engine crashed".to_owned(),
        }
    }

    #[test]
    fn three_faults_of_one_kind_on_different_healthy_runners_are_the_jobs() {
        use FaultKind::{Engine, Storage};
        let on = |runners: &[&str]| -> Vec<RunnerFault> {
            runners.iter().map(|runner| fault(runner, Engine)).collect()
        };
        assert!(job_error_if_repeated(&on(&["a", "b"]), Engine, 4).is_none());
        assert!(job_error_if_repeated(&on(&["a", "b", "a"]), Engine, 4).is_none());
        let mut mixed = on(&["a", "b"]);
        mixed.push(fault("c", Storage));
        assert!(job_error_if_repeated(&mixed, Storage, 4).is_none());
        let error = job_error_if_repeated(&on(&["a", "b", "c"]), Engine, 4).unwrap();
        assert_eq!(
            (error.status, error.error_type.as_str()),
            (500, RUNNER_ERROR)
        );
        assert_eq!(
            error.message,
            "failed 3 times with the same fault: the engine crashed (on a, b, c)"
        );
        // With fewer runners, all of them suffice.
        assert!(job_error_if_repeated(&on(&["a", "b", "a"]), Engine, 2).is_some());
        assert!(job_error_if_repeated(&on(&["a", "a", "a"]), Engine, 1).is_some());
        assert!(job_error_if_repeated(&on(&["a", "a"]), Engine, 1).is_none());
    }
}
