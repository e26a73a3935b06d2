//! Ids of jobs as scripts publish them: of cancelled ones per app, of ended ones over all apps.

use warmq_types::ids::{AppId, JobId};

use super::subscriptions::Subscription;
use super::{Cancellation, Error, Jobs};

/// Stream of ids. Some are lost if the connection breaks or the reader falls behind.
pub struct JobIds(Subscription);

impl JobIds {
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
    /// Subscribes to the app's cancellations. A runner that misses one notices it at its next lease
    /// renewal or progress report.
    pub async fn subscribe(self, app: &AppId) -> Result<JobIds, Error> {
        let channel = self.keys.cancelled(app);
        Ok(JobIds(self.subscriptions.open(&channel).await?))
    }
}

impl Jobs<'_> {
    /// Subscribes to the ends of all jobs, for requests that wait for one.
    pub async fn ends(self) -> Result<JobIds, Error> {
        Ok(JobIds(
            self.subscriptions.open(&self.keys.ended_jobs()).await?,
        ))
    }
}
