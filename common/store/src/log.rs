//! Logs of jobs, kept as long as the job's record.

use redis::AsyncCommands;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warmq_types::flow::Flow;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::Progress;
use warmq_types::state::JobState;

use super::record::if_known;
use super::{Error, JobLog};

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// Time, Unix ms.
    pub at_ms: u64,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// One sentence.
    pub message: String,
    /// The runner that it concerns.
    #[serde(default)]
    pub runner: Option<RunnerId>,
}

/// The fields of a job that change while it waits and runs, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSnapshot {
    /// State of the job.
    pub state: JobState,
    /// Progress, while it runs.
    pub progress: Option<Progress>,
    /// Steps so far, for a flow.
    pub flow: Option<Flow>,
    /// Number of jobs in front of it, while it waits.
    pub queue_position: Option<u64>,
    /// New lines of its log.
    pub log: Vec<LogLine>,
}

impl JobLog<'_> {
    /// Returns all lines of a job's log, in order.
    ///
    /// # Errors
    /// Redis is unreachable, or a line was written by another version.
    pub async fn all(self, app: &AppId, job: JobId) -> Result<Vec<LogLine>, Error> {
        let key = self.keys.log(app, job);
        let entries: Vec<String> = self.connection.clone().lrange(&key, 0, -1).await?;
        lines(&key, &entries)
    }

    /// Appends a line to the log of a job. `level`: `INFO`, `WARN` or `ERROR`.
    pub async fn append(
        self,
        app: &AppId,
        job: JobId,
        (level, line): (&str, &str),
    ) -> Result<(), Error> {
        Ok(self
            .scripts
            .append_log
            .key(self.keys.job(app, job))
            .key(self.keys.log(app, job))
            .arg(level)
            .arg(line)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Returns the events of a job's stream after the first `seen`.
    ///
    /// # Errors
    /// Redis is unreachable, or an event was written by another version.
    pub async fn events(self, app: &AppId, job: JobId, seen: usize) -> Result<Vec<Value>, Error> {
        let key = self.keys.events(app, job);
        let from = isize::try_from(seen).unwrap_or(isize::MAX);
        let events: Vec<String> = self.connection.clone().lrange(&key, from, -1).await?;
        let parsed = events.iter().map(|event| serde_json::from_str(event));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| Error::damaged(&key, error))
    }

    /// Returns the changing fields of a job, with its log after the first `seen` lines, if the id
    /// is known.
    ///
    /// # Errors
    /// Redis is unreachable, or a value was written by another version.
    pub async fn snapshot(
        self,
        app: &AppId,
        job: JobId,
        seen: usize,
    ) -> Result<Option<JobSnapshot>, Error> {
        type Fields = (Option<String>, Option<String>, Option<String>);
        let (key, log) = (self.keys.job(app, job), self.keys.log(app, job));
        let from = isize::try_from(seen).unwrap_or(isize::MAX);
        let ((state, progress, flow), queue_position, entries): (Fields, Option<u64>, Vec<String>) =
            redis::pipe()
                .atomic()
                .hmget(&key, &["state", "progress", "flow"])
                .zrank(self.keys.queued(app), job.to_string())
                .lrange(&log, from, -1)
                .query_async(&mut self.connection.clone())
                .await?;
        let Some(state) = state else {
            return Ok(None);
        };
        Ok(Some(JobSnapshot {
            state: (state.parse()).map_err(|error| Error::damaged(&key, error))?,
            progress: read(&key, progress)?.and_then(if_known),
            flow: read(&key, flow)?,
            queue_position,
            log: lines(&log, &entries)?,
        }))
    }
}

fn read<T: DeserializeOwned>(key: &str, json: Option<String>) -> Result<Option<T>, Error> {
    let read = json.map(|json| serde_json::from_str(&json)).transpose();
    read.map_err(|error| Error::damaged(key, error))
}

fn lines(key: &str, entries: &[String]) -> Result<Vec<LogLine>, Error> {
    let line =
        |entry: &String| serde_json::from_str(entry).map_err(|error| Error::damaged(key, error));
    entries.iter().map(line).collect()
}
