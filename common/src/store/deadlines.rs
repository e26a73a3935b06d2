//! Jobs that must have started by some time.

use redis::AsyncCommands;

use super::jobs::RETENTION_S;
use super::{Error, Store};
use crate::ids::{AppId, JobId};
use crate::job::JobSpec;

/// Jobs that are looked at in one call; the others come in the next.
const AT_ONCE: isize = 1000;

impl Store {
    /// Ends the app's jobs that have not started in time.
    ///
    /// # Errors
    /// Redis is away, or a record is not what this build writes.
    pub async fn expire(&self, app: &AppId) -> Result<Vec<JobSpec>, Error> {
        let now_ms = self.now_ms().await?;
        let due: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.start_deadlines(app), "-inf", now_ms, 0, AT_ONCE)
            .await?;
        let mut expired = Vec::new();
        for job in due.iter().filter_map(|id| id.parse::<JobId>().ok()) {
            let has_expired: bool = self
                .scripts
                .expire
                .key(self.keys.job(app, job))
                .key(self.keys.queued(app))
                .key(self.keys.start_deadlines(app))
                .key(self.keys.untold(app))
                .key(self.keys.log(app, job))
                .key(self.keys.active(app))
                .arg(job.to_string())
                .arg(RETENTION_S)
                .invoke_async(&mut self.connection.clone())
                .await?;
            if has_expired && let Some(record) = self.job_of(app, job).await? {
                expired.push(record.spec);
            }
        }
        Ok(expired)
    }
}
