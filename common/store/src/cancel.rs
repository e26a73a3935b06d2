//! Jobs that their owners no longer want.

use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::jobs::RETENTION_S;
use super::script_reply::words;
use super::subscriptions::Subscription;
use super::{Error, Store};

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The job has ended by it.
    Cancelled,
    /// It had ended before.
    Ended(JobState),
    /// There is no record.
    Missing,
}

/// Jobs of one app that were cancelled, as it happens. Some may be missed: whoever has such a job finds its state out when
/// it next says something about it.
pub struct Cancellations(Subscription);

impl Cancellations {
    /// The next one; `None` once the connection broke.
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

impl Store {
    /// Ends `job`, wherever it is, and tells those who follow [`Store::cancellations`].
    ///
    /// # Errors
    /// Redis is away.
    pub async fn cancel(&self, app: &AppId, job: JobId) -> Result<Cancel, Error> {
        let reply: Vec<String> = self
            .scripts
            .cancel
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(self.keys.outbox(app))
            .key(self.keys.log(app, job))
            .key(self.keys.active(app))
            .key(self.keys.tombstone(app, job))
            .arg(job.to_string())
            .arg(RETENTION_S)
            .arg(self.keys.cancelled(app))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["cancelled"] => Ok(Cancel::Cancelled),
            ["missing"] => Ok(Cancel::Missing),
            ["ended", state] => state
                .parse()
                .map(Cancel::Ended)
                .map_err(|error| Error::damaged("a script's reply", error)),
            other => Err(Error::damaged(
                "a script's reply",
                format_args!("{other:?} is unknown"),
            )),
        }
    }

    /// Follows the app's cancelled jobs from now on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn cancellations(&self, app: &AppId) -> Result<Cancellations, Error> {
        let channel = self.keys.cancelled(app);
        Ok(Cancellations(self.subscriptions.open(&channel).await?))
    }
}
