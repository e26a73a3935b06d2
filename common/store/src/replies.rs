//! Reply addresses of jobs, and which replies were sent: events may repeat, replies must not. A
//! submitter that submits a job again has lost its response, perhaps with its queue, so its new
//! address gets a reply of its own.

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobSpec, ReplyTo};

use super::jobs::{LONGEST_LIFE_S, RETENTION_S};
use super::record::json;
use super::{Error, Replies};

impl Replies<'_> {
    /// Sets the reply address of a job, whether or not a reply was sent before.
    pub async fn set_address(self, job: &JobSpec, reply_to: &ReplyTo) -> Result<(), Error> {
        let life_s = LONGEST_LIFE_S + job.retention_s.unwrap_or(RETENTION_S);
        Ok(self
            .scripts
            .set_reply_address
            .key(self.keys.job(&job.app, job.id))
            .key(self.keys.reply_to(&job.app, job.id))
            .key(self.keys.replied(&job.app, job.id))
            .arg(json(reply_to))
            .arg(life_s)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Returns the address to which the outcome is still to be sent. `first`: the one of the first
    /// submission.
    ///
    /// # Errors
    /// Redis is unreachable, or the address is damaged.
    pub async fn address(
        self,
        app: &AppId,
        job: JobId,
        first: Option<&ReplyTo>,
    ) -> Result<Option<ReplyTo>, Error> {
        let key = self.keys.reply_to(app, job);
        let keys = [&key, &self.keys.replied(app, job)];
        let (later, sent): (Option<String>, Option<String>) =
            self.connection.clone().mget(&keys).await?;
        let address = match later {
            Some(text) => {
                Some(serde_json::from_str(&text).map_err(|reason| Error::damaged(&key, reason))?)
            }
            None => first.cloned(),
        };
        Ok(address.filter(|address| sent.as_deref() != Some(&json(address))))
    }

    /// Records that the reply was sent, for as long as the job's record is kept.
    pub async fn record_sent(self, job: &JobSpec, reply_to: &ReplyTo) -> Result<(), Error> {
        let retention_s = job.retention_s.unwrap_or(RETENTION_S);
        let (key, address) = (
            self.keys.replied(&job.app, job.id),
            self.keys.reply_to(&job.app, job.id),
        );
        Ok(redis::pipe()
            .atomic()
            .set_ex(key, json(reply_to), retention_s)
            .ignore()
            .expire(address, i64::try_from(retention_s).unwrap_or(i64::MAX))
            .ignore()
            .query_async(&mut self.connection.clone())
            .await?)
    }
}
