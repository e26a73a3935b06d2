//! Ends that are stored and may not be announced yet: who stored them may have died before, or RabbitMQ lost the message that
//! would have led somebody there. Scripts note an end with the end itself; whoever announced it takes the note away.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobRecord, JobSpec};

use super::{Error, Store, ms};

/// Ends that are looked at in one call; the others come in the next.
const AT_ONCE: isize = 1000;

impl Store {
    /// Jobs of the app that ended at least `ago` ago and of which nobody may have been told.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn outbox(&self, app: &AppId, ago: Duration) -> Result<Vec<JobId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(ago));
        let ids: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.outbox(app), "-inf", before_ms, 0, AT_ONCE)
            .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// What announcing such a job's end needs: its record without input and output. `None`: there is nothing to announce (any
    /// more), as its retention is over, it was redriven, or its record cannot be read; then it is noted as announced.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn end_to_announce(
        &self,
        app: &AppId,
        job: JobId,
    ) -> Result<Option<JobRecord>, Error> {
        let found = match self.summary(app, job).await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %job, %error, "a job's end cannot be announced");
                None
            }
            found => found?,
        };
        let found = found.filter(|record| record.state.is_terminal());
        if found.is_none() {
            let key = self.keys.outbox(app);
            let _: () = self.connection.clone().zrem(key, job.to_string()).await?;
        }
        Ok(found)
    }

    /// Notes that everybody was told of a job's end; from now on it can be found by its id for as long as its record is kept.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn told(&self, job: &JobSpec) -> Result<(), Error> {
        let mut pipe = redis::pipe();
        pipe.zrem(self.keys.outbox(&job.app), job.id.to_string());
        pipe.ignore();
        self.shorten_index(&mut pipe, job);
        Ok(pipe.query_async(&mut self.connection.clone()).await?)
    }
}
