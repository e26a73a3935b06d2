//! Cancellation of jobs.

use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::jobs::RETENTION_S;
use super::script_reply::words;
use super::subscriptions::Subscription;
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

/// Stream of an app's cancelled jobs. Messages may be lost; the runner then notices at its next
/// lease renewal or progress report.
pub struct CancellationStream(Subscription);

impl CancellationStream {
    /// Returns the next one; `None` once the connection broke.
    pub async fn next(&mut self) -> Option<JobId> {
        loop {
            let text = self.0.next().await?;
            match text.parse() {
                Ok(job) => return Some(job),
                Err(_) => tracing::debug!(text, "not the id of a job"),
            }
        }
    }
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

    /// Subscribes to the app's cancellations.
    pub async fn subscribe(self, app: &AppId) -> Result<CancellationStream, Error> {
        let channel = self.keys.cancelled(app);
        Ok(CancellationStream(self.subscriptions.open(&channel).await?))
    }
}
