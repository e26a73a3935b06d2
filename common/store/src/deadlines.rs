//! Deadlines for the start of jobs.

use futures::{StreamExt, TryStreamExt, stream};
use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;

use super::jobs::RETENTION_S;
use super::{Deadlines, Error, SIDE_BY_SIDE};

/// Maximum number of jobs per call.
const AT_ONCE: isize = 1000;

impl Deadlines<'_> {
    /// Expires the app's jobs that have not started in time, and returns them without input and
    /// output, for their events. Jobs with unreadable records are removed from the list.
    pub async fn expire(self, app: &AppId) -> Result<Vec<JobSpec>, Error> {
        let now_ms = self.now_ms().await?;
        let due: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.start_deadlines(app), "-inf", now_ms, 0, AT_ONCE)
            .await?;
        let due: Vec<JobId> = due.iter().filter_map(|id| id.parse().ok()).collect();
        let expired: Vec<Option<JobSpec>> = stream::iter(due)
            .map(|job| self.expire_one(app, job))
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(expired.into_iter().flatten().collect())
    }

    async fn expire_one(self, app: &AppId, job: JobId) -> Result<Option<JobSpec>, Error> {
        let expired = async {
            let has_expired: bool = self
                .scripts
                .expire
                .key(self.keys.job(app, job))
                .key(self.keys.queued(app))
                .key(self.keys.start_deadlines(app))
                .key(&self.keys.ending(app, job))
                .arg(job.to_string())
                .arg(RETENTION_S)
                .arg(self.keys.cancelled(app))
                .invoke_async(&mut self.connection.clone())
                .await?;
            match has_expired {
                true => self.jobs().summary(app, job).await,
                false => Ok(None),
            }
        };
        match expired.await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %job, %error, "a job's deadline cannot be kept");
                let key = self.keys.start_deadlines(app);
                let _: () = self.connection.clone().zrem(key, job.to_string()).await?;
                Ok(None)
            }
            expired => Ok(expired?.map(|record| record.spec)),
        }
    }
}
