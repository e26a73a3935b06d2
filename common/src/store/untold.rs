//! Ends that are stored and may not be announced yet: who stored them may have died before, or RabbitMQ lost the message that
//! would have led somebody there. Scripts note an end with the end itself; whoever announced it takes the note away.

use std::time::Duration;

use redis::AsyncCommands;

use super::{Error, Store};
use crate::ids::{AppId, JobId};
use crate::job::JobRecord;

/// Ends that are looked at in one call; the others come in the next.
const AT_ONCE: isize = 1000;

impl Store {
    /// Jobs of the app that ended at least `ago` ago and of which nobody may have been told.
    ///
    /// # Errors
    /// Redis is away, or a record is not what this build writes.
    pub async fn untold(&self, app: &AppId, ago: Duration) -> Result<Vec<JobRecord>, Error> {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.now_ms().await?.saturating_sub(ago_ms);
        let ids: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.untold(app), "-inf", before_ms, 0, AT_ONCE)
            .await?;
        let mut untold = Vec::new();
        for job in ids.iter().filter_map(|id| id.parse::<JobId>().ok()) {
            match self.job_of(app, job).await? {
                Some(record) if record.state.is_terminal() => untold.push(record),
                // Its retention is over, or it was redriven.
                _ => self.told(app, job).await?,
            }
        }
        Ok(untold)
    }

    /// Notes that everybody was told of a job's end.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn told(&self, app: &AppId, job: JobId) -> Result<(), Error> {
        let key = self.keys.untold(app);
        Ok(self.connection.clone().zrem(key, job.to_string()).await?)
    }
}
