//! Placement of a waiting job: hold, claim of a runner, or shared queue.

use warmq_types::ids::{AppId, Epoch, JobId, RunnerId};
use warmq_types::job::{Decision, Hold};
use warmq_types::state::JobState;

use super::record::json;
use super::script_reply::{about_a_job, number, unavailable, words};
use super::{Error, Placement};

/// Why a job cannot be placed or started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Redis lost its record: the message contains the whole job.
    Missing,
    /// It ended, and its retention is over.
    Gone,
    /// No script can process its record.
    Damaged,
    /// It ended.
    Terminal(JobState),
    /// A runner holds its lease.
    Leased {
        /// Remaining time of the lease, ms.
        remaining_ms: u64,
    },
    /// Its next attempt is not due.
    Parked {
        /// Time until it is due, ms.
        remaining_ms: u64,
    },
    /// Its runner is lost: call [`Attempts::mark_lost`](crate::Attempts::mark_lost), then retry.
    Lost,
    /// It has no attempt left: end it with [`Attempts::quarantine`](crate::Attempts::quarantine).
    Spent,
}

/// Outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The runner, in this incarnation, is reserved for the job.
    Won(Epoch),
    /// The runner is no longer idle.
    Refused,
    /// The job needs no runner.
    Unavailable(Unavailable),
}

impl Placement<'_> {
    /// Reserves `runner` for `job` for `claim_ms`, if both are free.
    pub async fn claim(
        self,
        app: &AppId,
        job: JobId,
        runner: &RunnerId,
        claim_ms: u64,
        decision: &Decision,
    ) -> Result<Claim, Error> {
        let reply = self
            .scripts
            .claim
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.log(app, job))
            .key(self.keys.tombstone(app, job))
            .key(self.keys.job_list())
            .arg(job.to_string())
            .arg(runner.as_str())
            .arg(claim_ms)
            .arg(json(decision))
            .arg(format!("sent to {runner}: {}", decision.reason))
            .invoke_async(&mut self.connection.clone())
            .await;
        match words(&about_a_job(reply)?).as_slice() {
            ["claimed", epoch] => Ok(Claim::Won(Epoch(number(epoch)?))),
            ["refused"] => Ok(Claim::Refused),
            other => Ok(Claim::Unavailable(unavailable(other)?)),
        }
    }

    /// Records that `job` is held; returns the reason if it must not be.
    pub async fn hold(
        self,
        app: &AppId,
        job: JobId,
        hold: &Hold,
    ) -> Result<Option<Unavailable>, Error> {
        let reply = self
            .scripts
            .hold
            .key(self.keys.job(app, job))
            .key(self.keys.log(app, job))
            .key(self.keys.tombstone(app, job))
            .arg(json(hold))
            .arg(format!("held: {}", hold.reason))
            .invoke_async(&mut self.connection.clone())
            .await;
        match words(&about_a_job(reply)?).as_slice() {
            ["held"] => Ok(None),
            other => Ok(Some(unavailable(other)?)),
        }
    }

    /// Records that `job` is moved to the app's shared queue; returns the reason if it must not be.
    pub async fn move_to_shared(
        self,
        app: &AppId,
        job: JobId,
        decision: &Decision,
    ) -> Result<Option<Unavailable>, Error> {
        let reply = self
            .scripts
            .move_to_shared
            .key(self.keys.job(app, job))
            .key(self.keys.log(app, job))
            .key(self.keys.tombstone(app, job))
            .key(self.keys.job_list())
            .arg(json(decision))
            .arg(format!(
                "sent to whichever runner is free first: {}",
                decision.reason
            ))
            .invoke_async(&mut self.connection.clone())
            .await;
        match words(&about_a_job(reply)?).as_slice() {
            ["shared"] => Ok(None),
            other => Ok(Some(unavailable(other)?)),
        }
    }
}
