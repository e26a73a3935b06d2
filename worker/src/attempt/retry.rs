//! What follows an attempt that timed out or met a fault: the job is requeued for another runner,
//! or fails.

use std::collections::BTreeSet;
use std::time::Duration;

use warmq_process::retry::until_success;
use warmq_store::RequeueCause;
use warmq_types::attempt::Lease;
use warmq_types::attempt::Outcome;
use warmq_types::fault::{FaultKind, RunnerFault};
use warmq_types::ids::RunnerId;
use warmq_types::job::JobError;
use warmq_types::message::JobMessage;
use warmq_types::retry_tier::RetryTier;
use warmq_types::text::shortened;

use super::finish::{EndedAttempt, timeout_error};
use crate::consumer::JobDelivery;
use crate::fault::Fault;
use crate::runner::Runner;

/// Faults of one class on healthy runners (distinct ones, if there are as many) after which the job
/// itself fails.
const MAX_FAULTS_PER_KIND: usize = 3;

/// Length limit of a job's error, bytes.
const MAX_ERROR_BYTES: usize = 296;

/// Timeout for best-effort queries.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the job needs another attempt.
pub(super) enum RetryReason {
    /// The attempt exceeded the job's `run_timeout`.
    TimedOut(Duration),
    /// The runner met a fault. `healthy`: its self-test passed right afterwards.
    Fault { fault: Fault, healthy: bool },
}

impl RetryReason {
    /// The entry in the job's log.
    fn reason(&self) -> String {
        match self {
            Self::TimedOut(_) => "the attempt timed out".to_owned(),
            Self::Fault { fault, .. } => {
                format!("its runner failed ({}): {}", fault.kind, fault.message)
            }
        }
    }

    /// The job's error after its last attempt.
    fn error(self) -> JobError {
        match self {
            Self::TimedOut(timeout) => timeout_error(timeout),
            Self::Fault { fault, .. } => JobError::internal(RUNNER_ERROR, fault.message),
        }
    }
}

/// fal's `error_type` for faults of runners.
const RUNNER_ERROR: &str = "runner_server_error";

impl Runner {
    /// Requeues the job with this runner on its avoid list, or fails the job if no attempt is left.
    /// Returns whether the outcome counts, and the message unless it was acknowledged.
    pub(super) async fn retry_or_fail(
        &self,
        attempt: &mut EndedAttempt,
        retry: RetryReason,
        job: JobMessage,
        message: Option<JobDelivery>,
    ) -> (bool, Option<JobDelivery>) {
        let mut job = self
            .with_recorded_faults(job)
            .await
            .avoiding(self.id.clone());
        let mut new_fault = None;
        if let RetryReason::Fault {
            fault,
            healthy: true,
        } = &retry
        {
            let met = RunnerFault {
                runner: self.id.clone(),
                kind: fault.kind,
                message: fault.message.clone(),
            };
            job.faults.push(met.clone());
            new_fault = Some(met);
            if let Some(error) =
                job_error_if_repeated(&job.faults, fault.kind, self.healthy_runners().await)
            {
                attempt.outcome = Outcome::Failed(error);
                return (true, message);
            }
        }
        match attempt.delay_before_next() {
            Some(delay) => {
                let reason = retry.reason();
                let cause = RequeueCause::Counted {
                    reason: &reason,
                    fault: new_fault.as_ref(),
                };
                let message = self
                    .requeue_later(attempt, cause, delay, &job, message)
                    .await;
                (false, message)
            }
            None => {
                attempt.outcome = Outcome::Failed(retry.error());
                (true, message)
            }
        }
    }

    /// Requeues the job after a delay. Returns the message unless it was acknowledged.
    async fn requeue_later(
        &self,
        attempt: &EndedAttempt,
        cause: RequeueCause<'_>,
        delay: Duration,
        job: &JobMessage,
        message: Option<JobDelivery>,
    ) -> Option<JobDelivery> {
        let (context, spec, tier) = (&self.context, &job.job, RetryTier::at_least(delay));
        if let Some(Lease { fence, .. }) = attempt.lease {
            let requeued = until_success("requeueing a job", &context.give_up, || {
                (context.store)
                    .attempts()
                    .requeue(&spec.app, spec.id, fence, cause)
            });
            if requeued.await != Some(true) {
                return message;
            }
        }
        tracing::warn!(
            runner = %self.id, job.id = %spec.id, ?cause, retry_in_ms = tier.delay().as_millis() as u64,
            "attempt failed: the job is requeued"
        );
        // Without a message a copy is already in a retry tier, with a much longer delay.
        context.delay_then_ack(job, tier, message).await;
        None
    }

    /// Adds the avoid list and faults of the record to the message, if Redis is reachable: the
    /// message may be a fresh one.
    async fn with_recorded_faults(&self, message: JobMessage) -> JobMessage {
        let job = &message.job;
        let failures = self
            .context
            .store
            .attempts()
            .failure_history(&job.app, job.id);
        match tokio::time::timeout(QUERY_TIMEOUT, failures).await {
            Ok(Ok(failures)) => message.with(failures),
            _ => message,
        }
    }

    /// Returns the number of healthy runners, or the limit if Redis is unreachable.
    async fn healthy_runners(&self) -> usize {
        let counts = self.context.store.fleet().counts(&self.context.config.app);
        match tokio::time::timeout(QUERY_TIMEOUT, counts).await {
            Ok(Ok(counts)) => {
                usize::try_from(counts.live.saturating_sub(counts.faulty)).unwrap_or(0)
            }
            _ => MAX_FAULTS_PER_KIND,
        }
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
