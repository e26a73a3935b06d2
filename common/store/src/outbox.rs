//! The outbox: ended jobs whose event may not be published yet, because the process that stored the
//! result crashed or RabbitMQ lost the message. Scripts write the entry together with the end; the
//! publisher of the event removes it.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobRecord, JobSpec};

use super::history::HISTORY_MINUTES;
use super::usage::USAGE_DAYS;
use super::{Error, Outbox, ms};

/// Maximum number of jobs per call.
const MAX_BATCH: isize = 1000;

impl Outbox<'_> {
    /// Returns the jobs of the app that ended at least `ago` ago and are still in the outbox.
    pub async fn entries(self, app: &AppId, ago: Duration) -> Result<Vec<JobId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(ago));
        let ids: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.outbox(app), "-inf", before_ms, 0, MAX_BATCH)
            .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Returns an ended job's record without input and output, for its event. `None`: there is
    /// nothing to publish, since its retention is over, it was redriven, or its record is
    /// unreadable; the entry is then removed.
    pub async fn record(self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        let found = match self.jobs().summary(app, job).await {
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

    /// Removes a job whose event was published from the outbox, and counts its end in the app's
    /// history and its key's usage; its entry by id then lasts as long as its record.
    pub async fn remove(self, job: &JobSpec) -> Result<(), Error> {
        let (mut connection, mut other) = (self.connection.clone(), self.connection.clone());
        let mut call = self.scripts.leave_outbox.prepare_invoke();
        call.key(self.keys.outbox(&job.app))
            .key(self.keys.job(&job.app, job.id))
            .key(self.keys.history(&job.app))
            .arg(job.id.to_string())
            .arg(HISTORY_MINUTES)
            .arg(self.keys.usage_of_days())
            .arg(USAGE_DAYS);
        let mut pipe = redis::pipe();
        self.jobs().shorten_index(&mut pipe, job);
        let counted = call.invoke_async::<()>(&mut connection);
        let shortened = pipe.query_async::<()>(&mut other);
        tokio::try_join!(counted, shortened)?;
        Ok(())
    }
}
