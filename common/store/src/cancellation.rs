//! Cancellation of jobs.

use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::jobs::RETENTION_S;
use super::script_reply::words;
use super::{Cancellation, Error};

/// Outcome of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The job was cancelled.
    Cancelled,
    /// The job had ended before.
    Ended(JobState),
    /// The job does not exist.
    Missing,
}

impl Cancellation<'_> {
    /// Cancels `job` in any state, and publishes that to [`Cancellation::subscribe`].
    pub async fn cancel(self, app: &AppId, job: JobId) -> Result<CancelOutcome, Error> {
        let reply: Vec<String> = self
            .scripts
            .cancel
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(&self.keys.ending(app, job))
            .arg(job.to_string())
            .arg(RETENTION_S)
            .arg(self.keys.cancelled(app))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["cancelled"] => Ok(CancelOutcome::Cancelled),
            ["missing"] => Ok(CancelOutcome::Missing),
            ["ended", state] => state
                .parse()
                .map(CancelOutcome::Ended)
                .map_err(|error| Error::damaged("a script's reply", error)),
            other => Err(Error::damaged(
                "a script's reply",
                format_args!("{other:?} is unknown"),
            )),
        }
    }
}
