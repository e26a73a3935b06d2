//! Active jobs per owner, for API keys with `max_jobs`.
//!
//! Each app keeps its own list (`{app}:active`) in the same script as its records, so jobs of one
//! app are counted exactly. The apps to which an owner submits are listed in another key: before a
//! job is recorded, and removed only after [`SETTLED`] without a submission. So a submission reads
//! the lists of few apps.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId, KeyId};

use super::script_reply::number;
use super::{ActiveJobs, Error, ms};

/// Maximum time from a submission to its record.
const SETTLED: Duration = Duration::from_secs(60);

impl ActiveJobs<'_> {
    /// Returns the number of an owner's active jobs over `apps`.
    pub async fn count(
        self,
        apps: impl IntoIterator<Item = &AppId>,
        owner: &KeyId,
    ) -> Result<u64, Error> {
        Ok(self.by_app(apps, owner).await?.iter().sum())
    }

    async fn by_app(
        self,
        apps: impl IntoIterator<Item = &AppId>,
        owner: &KeyId,
    ) -> Result<Vec<u64>, Error> {
        let (first, last) = range(owner);
        let mut pipe = redis::pipe();
        for app in apps {
            pipe.zlexcount(self.keys.active(app), &first, &last);
        }
        // A pipeline without commands is refused.
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        Ok(pipe.query_async(&mut self.connection.clone()).await?)
    }

    /// Registers that an owner submits to `app`, and returns its active jobs in other apps.
    pub async fn in_other_apps(self, app: &AppId, owner: &KeyId) -> Result<u64, Error> {
        let key = self.keys.apps_of(owner);
        let mut connection = self.connection.clone();
        let used: Vec<String> = self
            .scripts
            .use_app
            .key(&key)
            .arg(app.as_str())
            .invoke_async(&mut connection)
            .await?;
        let mut others = Vec::new();
        for pair in used.chunks_exact(2) {
            if pair[0] != app.as_str()
                && let Ok(other) = AppId::parse(&pair[0])
            {
                others.push((other, number::<u64>(&pair[1])?));
            }
        }
        let counts = self
            .active_jobs()
            .by_app(others.iter().map(|(other, _)| other), owner)
            .await?;
        let mut leave = self.scripts.leave_apps.prepare_invoke();
        leave.key(&key).arg(ms(SETTLED));
        let idle = others.iter().zip(&counts);
        let idle: Vec<&str> = idle
            .filter(|((_, ago_ms), count)| **count == 0 && *ago_ms > ms(SETTLED))
            .map(|((other, _), _)| other.as_str())
            .collect();
        if !idle.is_empty() {
            leave.arg(idle).invoke_async::<()>(&mut connection).await?;
        }
        Ok(counts.iter().sum())
    }

    /// Removes an owner's entries whose records Redis lost. Returns whether there were any.
    pub async fn forget_lost(self, app: &AppId, owner: &KeyId) -> Result<bool, Error> {
        let (first, last) = range(owner);
        let active = self.keys.active(app);
        let mut connection = self.connection.clone();
        let entries: Vec<String> = connection.zrangebylex(&active, first, last).await?;
        let job = |entry: &String| entry.rsplit(' ').next().and_then(|id| id.parse().ok());
        let entries: Vec<(String, JobId)> = entries
            .into_iter()
            .filter_map(|entry| Some((job(&entry)?, entry)))
            .map(|(job, entry)| (entry, job))
            .collect();
        if entries.is_empty() {
            return Ok(false);
        }
        let mut pipe = redis::pipe();
        for (_, job) in &entries {
            pipe.exists(self.keys.job(app, *job));
        }
        let exist: Vec<bool> = pipe.query_async(&mut connection).await?;
        let lost = entries.into_iter().zip(exist);
        let lost: Vec<String> = lost
            .filter(|(_, exists)| !exists)
            .map(|((entry, _), _)| entry)
            .collect();
        if lost.is_empty() {
            return Ok(false);
        }
        tracing::warn!(%app, %owner, jobs = lost.len(), "Redis lost the records of jobs that counted as active");
        Ok(connection.zrem::<_, _, u64>(active, lost).await? > 0)
    }
}

/// Returns the range of an owner's entries. Key ids contain no character below `-`.
fn range(owner: &KeyId) -> (String, String) {
    (format!("[{owner} "), format!("({owner}!"))
}
