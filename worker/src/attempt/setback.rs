//! An attempt that failed though its job may be sound: the job is tried elsewhere, until it is the job's own failure after all.

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

use super::end::{Attempt, too_long};
use crate::consumer::Taken;
use crate::fault::Fault;
use crate::runner::Runner;

/// Faults of one kind on healthy runners, all different where there are as many, after which the job is to blame.
const FAULTS_OF_ONE_JOB: usize = 3;

/// Longest error of a job, bytes.
const MAX_ERROR: usize = 296;

/// Timeout for best-effort queries.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why an attempt is followed by another.
pub(super) enum Setback {
    /// It took longer than the job's `run_timeout`.
    TooLong(Duration),
    /// The runner failed; `healthy`: it passed its self-test right afterwards.
    Fault { fault: Fault, healthy: bool },
}

impl Setback {
    /// For the job's log.
    fn reason(&self) -> String {
        match self {
            Self::TooLong(_) => "the attempt took too long".to_owned(),
            Self::Fault { fault, .. } => {
                format!("its runner failed ({}): {}", fault.kind, fault.message)
            }
        }
    }

    /// The job's error if this was its last attempt.
    fn error(self) -> JobError {
        match self {
            Self::TooLong(timeout) => too_long(timeout),
            Self::Fault { fault, .. } => JobError::internal(RUNNER_ERROR, fault.message),
        }
    }
}

/// The type of an error that is a runner's, in fal's words.
const RUNNER_ERROR: &str = "runner_server_error";

impl Runner {
    /// Requeues the job, counted, with this runner among those to avoid; or turns the attempt's outcome into the job's failure.
    /// Returns whether the outcome counts, and the message unless it is acknowledged.
    pub(super) async fn set_back(
        &self,
        attempt: &mut Attempt,
        setback: Setback,
        job: JobMessage,
        message: Option<Taken>,
    ) -> (bool, Option<Taken>) {
        let mut job = self.with_setbacks(job).await.avoiding(self.id.clone());
        let mut new_fault = None;
        if let Setback::Fault {
            fault,
            healthy: true,
        } = &setback
        {
            let met = RunnerFault {
                runner: self.id.clone(),
                kind: fault.kind,
                message: fault.message.clone(),
            };
            job.faults.push(met.clone());
            new_fault = Some(met);
            if let Some(error) = guilty(&job.faults, fault.kind, self.healthy_runners().await) {
                attempt.outcome = Outcome::Failed(error);
                return (true, message);
            }
        }
        match attempt.delay_before_next() {
            Some(delay) => {
                let reason = setback.reason();
                let given_back = RequeueCause::Counted {
                    reason: &reason,
                    fault: new_fault.as_ref(),
                };
                let message = self
                    .try_later(attempt, given_back, delay, &job, message)
                    .await;
                (false, message)
            }
            None => {
                attempt.outcome = Outcome::Failed(setback.error());
                (true, message)
            }
        }
    }

    /// Queues the job again, to come back after the delay. Returns the message if it is not acknowledged.
    async fn try_later(
        &self,
        attempt: &Attempt,
        given_back: RequeueCause<'_>,
        delay: Duration,
        job: &JobMessage,
        message: Option<Taken>,
    ) -> Option<Taken> {
        let (shared, spec, tier) = (&self.shared, &job.job, RetryTier::at_least(delay));
        if let Some(Lease { fence, .. }) = attempt.lease {
            let requeued = until_success("giving a job back", &shared.give_up, || {
                (shared.store).requeue(&spec.app, spec.id, fence, given_back)
            });
            if requeued.await != Some(true) {
                return message;
            }
        }
        tracing::warn!(
            runner = %self.id, job.id = %spec.id, ?given_back, retry_in_ms = tier.delay().as_millis() as u64,
            "an attempt failed; the job will be tried again"
        );
        // Without a message a copy of it is parked already, for much longer than the next attempt is to wait.
        shared.park_then_ack(job, tier, message).await;
        None
    }

    /// Adds what the record says to a job's message, which may have been made anew; nothing if Redis is away.
    async fn with_setbacks(&self, message: JobMessage) -> JobMessage {
        let job = &message.job;
        let setbacks = self.shared.store.setbacks(&job.app, job.id);
        match tokio::time::timeout(QUERY_TIMEOUT, setbacks).await {
            Ok(Ok(setbacks)) => message.with(setbacks),
            _ => message,
        }
    }

    /// Live runners of the app that take jobs; as many as it takes if Redis is away.
    async fn healthy_runners(&self) -> usize {
        let counts = self.shared.store.counts(&self.shared.config.app);
        match tokio::time::timeout(QUERY_TIMEOUT, counts).await {
            Ok(Ok(counts)) => {
                usize::try_from(counts.live.saturating_sub(counts.faulty)).unwrap_or(0)
            }
            _ => FAULTS_OF_ONE_JOB,
        }
    }
}

/// The job's error if its faults of this kind are its own: as many, on as many different runners as there are.
fn guilty(faults: &[RunnerFault], kind: FaultKind, healthy_runners: usize) -> Option<JobError> {
    let same = || faults.iter().filter(|fault| fault.kind == kind);
    let runners: BTreeSet<&RunnerId> = same().map(|fault| &fault.runner).collect();
    let different = FAULTS_OF_ONE_JOB.min(healthy_runners).max(1);
    if same().count() < FAULTS_OF_ONE_JOB || runners.len() < different {
        return None;
    }
    let names: Vec<&str> = runners.iter().map(|runner| runner.as_str()).collect();
    let reasons: BTreeSet<&str> = same().map(|fault| fault.message.as_str()).collect();
    let reasons: Vec<&str> = reasons.into_iter().collect();
    let message = format!(
        "it failed {} times in the same way: {} (on {})",
        same().count(),
        reasons.join("; "),
        names.join(", ")
    );
    Some(JobError::internal(
        RUNNER_ERROR,
        shortened(message, MAX_ERROR),
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
        assert!(guilty(&on(&["a", "b"]), Engine, 4).is_none());
        assert!(guilty(&on(&["a", "b", "a"]), Engine, 4).is_none());
        let mut mixed = on(&["a", "b"]);
        mixed.push(fault("c", Storage));
        assert!(guilty(&mixed, Storage, 4).is_none());
        let error = guilty(&on(&["a", "b", "c"]), Engine, 4).unwrap();
        assert_eq!(
            (error.status, error.error_type.as_str()),
            (500, RUNNER_ERROR)
        );
        assert_eq!(
            error.message,
            "it failed 3 times in the same way: the engine crashed (on a, b, c)"
        );
        // Where there are fewer, all of them.
        assert!(guilty(&on(&["a", "b", "a"]), Engine, 2).is_some());
        assert!(guilty(&on(&["a", "a", "a"]), Engine, 1).is_some());
        assert!(guilty(&on(&["a", "a"]), Engine, 1).is_none());
    }
}
