//! The waiting and running jobs of an app, as an overview shows them: few fields of many jobs.

use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{Hold, Priority, Progress};
use warmq_types::state::JobState;

use super::{Error, Waiting};

/// Maximum number of jobs per pipeline, so that other commands are not delayed.
const CHUNK: usize = 250;

/// The fields of a waiting job that never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingJob {
    /// Its model.
    pub hint: Option<Hint>,
    /// Its lane.
    pub priority: Priority,
    /// Time of acceptance, Unix ms.
    pub created_ms: u64,
}

/// The hold of a job that its dispatcher keeps at present.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldJob {
    /// The job.
    pub id: JobId,
    /// The hold.
    pub hold: Hold,
}

/// What a runner is doing with a job.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// Its state: dispatched until the runner starts it.
    pub state: JobState,
    /// Its model.
    pub hint: Option<Hint>,
    /// Begin of the attempt, Unix ms.
    pub started_ms: Option<u64>,
    /// Progress.
    pub progress: Option<Progress>,
}

type Fields<const N: usize> = [Option<String>; N];

impl Waiting<'_> {
    /// Returns the number of waiting jobs, and the first `limit` of them in their order.
    pub async fn jobs(self, app: &AppId, limit: usize) -> Result<(u64, Vec<JobId>), Error> {
        let key = self.keys.queued(app);
        let last = isize::try_from(limit).unwrap_or(isize::MAX) - 1;
        let (count, ids): (u64, Vec<String>) = redis::pipe()
            .zcard(&key)
            .zrange(&key, 0, last)
            .query_async(&mut self.connection.clone())
            .await?;
        Ok((count, ids.iter().filter_map(|id| id.parse().ok()).collect()))
    }

    /// Returns the fixed fields of these jobs; `None` for one without a record.
    pub async fn facts(
        self,
        app: &AppId,
        jobs: &[JobId],
    ) -> Result<Vec<Option<WaitingJob>>, Error> {
        let jobs = jobs.iter().map(|job| (app, *job));
        let fields = self.fields(jobs, &["created_ms", "hint", "priority"]);
        let facts = fields
            .await?
            .into_iter()
            .map(|(_, [created, hint, priority])| {
                Some(WaitingJob {
                    created_ms: created?.parse().ok()?,
                    hint: hint.and_then(|hint| Hint::parse(&hint).ok()),
                    priority: priority
                        .and_then(|name| Priority::parse(&name))
                        .unwrap_or_default(),
                })
            });
        Ok(facts.collect())
    }

    /// Returns the holds of those of `jobs` that are held now.
    pub async fn held(self, app: &AppId, jobs: &[JobId]) -> Result<Vec<HeldJob>, Error> {
        let jobs = jobs.iter().map(|job| (app, *job));
        let fields = self
            .fields(jobs, &["state", "hold", "dispatched_ms"])
            .await?;
        let held = fields
            .into_iter()
            .filter_map(|(id, [state, hold, dispatched])| {
                let hold: Hold = serde_json::from_str(&hold?).ok()?;
                let dispatched_ms: Option<u64> = dispatched.and_then(|text| text.parse().ok());
                // A placement after the hold ended it.
                let is_held = state? == JobState::Queued.as_str()
                    && dispatched_ms.is_none_or(|sent_ms| hold.since_ms >= sent_ms);
                is_held.then_some(HeldJob { id, hold })
            });
        Ok(held.collect())
    }

    /// Returns what runners do with these jobs; those without a record are omitted.
    pub async fn running(self, jobs: &[(AppId, JobId)]) -> Result<Vec<RunningJob>, Error> {
        const NAMES: [&str; 4] = ["state", "hint", "started_ms", "progress"];
        let fields = self.fields(jobs.iter().map(|(app, job)| (app, *job)), &NAMES);
        let running =
            fields
                .await?
                .into_iter()
                .filter_map(|(id, [state, hint, started, progress])| {
                    Some(RunningJob {
                        id,
                        state: state?.parse().ok()?,
                        hint: hint.and_then(|hint| Hint::parse(&hint).ok()),
                        started_ms: started.and_then(|text| text.parse().ok()),
                        progress: progress.and_then(|json| serde_json::from_str(&json).ok()),
                    })
                });
        Ok(running.collect())
    }

    /// Reads the named fields of each job.
    async fn fields<'j, const N: usize>(
        self,
        jobs: impl Iterator<Item = (&'j AppId, JobId)>,
        names: &[&str; N],
    ) -> Result<Vec<(JobId, Fields<N>)>, Error> {
        let jobs: Vec<(&AppId, JobId)> = jobs.collect();
        let mut found = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for (app, job) in chunk {
                pipeline.hmget(self.keys.job(app, *job), names);
            }
            let mut connection = self.connection.clone();
            let values: Vec<Fields<N>> = pipeline.query_async(&mut connection).await?;
            found.extend(chunk.iter().map(|(_, job)| *job).zip(values));
        }
        Ok(found)
    }
}
