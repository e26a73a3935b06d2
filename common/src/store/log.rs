//! What is told to a job's owner while the job waits and runs: lines, kept as long as the job's record.

use std::collections::HashMap;

use super::{Error, Store};
use crate::ids::{AppId, JobId, RunnerId};
use crate::job::Progress;
use crate::state::JobState;

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it stands in the log.
    pub place: LogPlace,
    /// When it was written, Unix ms.
    pub at_ms: u64,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// A sentence.
    pub message: String,
    /// The runner that it is about.
    pub runner: Option<RunnerId>,
}

/// A place in a job's log, to read on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace(String);

/// What changes of a job while it waits and runs, as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// Where it stands.
    pub state: JobState,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Jobs in front of it, while it waits.
    pub queue_position: Option<u64>,
    /// Lines of its log that are new.
    pub log: Vec<LogLine>,
}

/// A stream's entries as Redis gives them.
type Entries = Vec<(String, HashMap<String, String>)>;

impl Store {
    /// All lines of a job's log, the first one first.
    ///
    /// # Errors
    /// Redis is away, or a line is not what this build writes.
    pub async fn log(&self, app: &AppId, job: JobId) -> Result<Vec<LogLine>, Error> {
        let key = self.keys.log(app, job);
        let entries: Entries = redis::cmd("XRANGE")
            .arg(&key)
            .arg("-")
            .arg("+")
            .query_async(&mut self.connection.clone())
            .await?;
        lines(&key, entries)
    }

    /// What is new of a job, with the lines of its log after `seen`; `None` when the id is unknown.
    ///
    /// # Errors
    /// Redis is away, or something is not what this build writes.
    pub async fn glance(
        &self,
        app: &AppId,
        job: JobId,
        seen: Option<&LogPlace>,
    ) -> Result<Option<Glance>, Error> {
        type Fields = (Option<String>, Option<String>);
        let (key, log) = (self.keys.job(app, job), self.keys.log(app, job));
        let after = match seen {
            Some(LogPlace(id)) => format!("({id}"),
            None => "-".to_owned(),
        };
        let ((state, progress), queue_position, entries): (Fields, Option<u64>, Entries) =
            redis::pipe()
                .atomic()
                .hmget(&key, &["state", "progress"])
                .zrank(self.keys.queued(app), job.to_string())
                .cmd("XRANGE")
                .arg(&log)
                .arg(after)
                .arg("+")
                .query_async(&mut self.connection.clone())
                .await?;
        let Some(state) = state else {
            return Ok(None);
        };
        Ok(Some(Glance {
            state: (state.parse()).map_err(|error| Error::damaged(&key, error))?,
            progress: progress
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| Error::damaged(&key, error))?,
            queue_position,
            log: lines(&log, entries)?,
        }))
    }
}

fn lines(key: &str, entries: Entries) -> Result<Vec<LogLine>, Error> {
    let line = |(id, mut fields): (String, HashMap<String, String>)| {
        let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok());
        let mut field = |name: &str| fields.remove(name).filter(|text| !text.is_empty());
        Ok(LogLine {
            at_ms: at_ms.ok_or_else(|| Error::damaged(key, "an entry without a time"))?,
            level: field("level").unwrap_or_else(|| "INFO".to_owned()),
            message: field("message").unwrap_or_default(),
            runner: field("runner").and_then(|runner| RunnerId::parse(&runner).ok()),
            place: LogPlace(id),
        })
    };
    entries.into_iter().map(line).collect()
}
