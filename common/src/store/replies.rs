//! Which outcomes were sent to their submitters: a job's end may be announced more than once, and is told once.

use redis::AsyncCommands;

use super::jobs::RETENTION_S;
use super::{Error, Store};
use crate::ids::{AppId, JobId};

impl Store {
    /// Whether the job's outcome was sent to its submitter.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn has_replied(&self, app: &AppId, job: JobId) -> Result<bool, Error> {
        let key = self.keys.replied(app, job);
        Ok(self.connection.clone().exists(key).await?)
    }

    /// Notes that it was, for as long as the record is kept.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn note_reply(&self, app: &AppId, job: JobId) -> Result<(), Error> {
        let key = self.keys.replied(app, job);
        Ok(self.connection.clone().set_ex(key, 1, RETENTION_S).await?)
    }
}
