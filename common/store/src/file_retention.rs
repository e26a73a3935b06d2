//! What the cleanup of files needs: which jobs exist, which files were requested to stay longer,
//! and whose turn it is.

use std::time::Duration;

use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::{Error, FileRetention, ms};

impl FileRetention<'_> {
    /// Returns whether the caller performs the next cleanup: one router does per `interval`.
    pub async fn begin_cleanup(self, interval: Duration) -> Result<bool, Error> {
        let set: Option<String> = redis::cmd("SET")
            .arg(self.keys.cleanup())
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(ms(interval).max(1))
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(set.is_some())
    }

    /// Keeps the files below `folder` for at least `seconds`, although their job expires.
    pub async fn keep(self, folder: &str, seconds: u64) -> Result<(), Error> {
        Ok(redis::cmd("SET")
            .arg(self.keys.kept_files(folder))
            .arg(1)
            .arg("EX")
            .arg(seconds.max(1))
            .query_async(&mut self.connection.clone())
            .await?)
    }

    /// Returns, for each folder, whether its files must stay: its job is known, or they are kept.
    pub async fn are_needed(self, folders: &[(String, Option<JobId>)]) -> Result<Vec<bool>, Error> {
        let mut pipe = redis::pipe();
        for (folder, job) in folders {
            let exists = pipe.cmd("EXISTS").arg(self.keys.kept_files(folder));
            if let Some(job) = job {
                exists.arg(self.keys.job_app(*job));
            }
        }
        let found: Vec<u64> = match folders.is_empty() {
            true => Vec::new(),
            false => pipe.query_async(&mut self.connection.clone()).await?,
        };
        Ok(found.into_iter().map(|keys| keys > 0).collect())
    }

    /// Returns, for each job of an app, whether its files may be deleted: it ended, or its record
    /// expired, and they are not kept.
    pub async fn may_go(self, app: &AppId, jobs: &[JobId]) -> Result<Vec<bool>, Error> {
        let mut pipe = redis::pipe();
        for job in jobs {
            pipe.exists(self.keys.kept_files(&format!("{app}/{job}")))
                .hget(self.keys.job(app, *job), "state");
        }
        let found: Vec<(bool, Option<String>)> = match jobs.is_empty() {
            true => Vec::new(),
            false => pipe.query_async(&mut self.connection.clone()).await?,
        };
        // The state of another version does not end here.
        let has_ended = |state: &str| state.parse::<JobState>().is_ok_and(JobState::is_terminal);
        let may_go = found
            .into_iter()
            .map(|(is_kept, state)| !is_kept && state.as_deref().is_none_or(has_ended));
        Ok(may_go.collect())
    }
}
