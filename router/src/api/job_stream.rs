//! Follows a job to its end for clients with an open connection.

use std::time::Duration;

use serde_json::Value;
use warmq_store::JobHead;
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::state::JobState;

use super::job_status::{JobStatus, Seen, read_status};
use super::{Api, ApiError};
use crate::completions::Waiter;

/// Poll interval of the record while waiting for an event, which may be missed.
const RECORD_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Poll interval of a followed job: progress and queue position have no events.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);

/// Waits for a job's end; returns its record.
///
/// # Errors
/// The record does not exist, no longer exists, or is unreadable.
pub(super) async fn until_ended(api: &Api, job: &JobSpec) -> Result<JobRecord, ApiError> {
    let watch = api.ended.watch(job.id);
    loop {
        match api.store.jobs().state_of(&job.app, job.id).await {
            Ok(Some(state)) if state.is_terminal() => break,
            Ok(Some(_)) => {}
            Ok(None) => break,
            // The job proceeds without Redis, and so does the wait.
            Err(error) => {
                tracing::debug!(job.id = %job.id, %error, "could not read a job's record")
            }
        }
        let _ = tokio::time::timeout(RECORD_POLL_INTERVAL, watch.ended()).await;
    }
    let record = api.store.jobs().outcome_of(&job.app, job.id).await?;
    record.ok_or_else(|| ApiError::no_such_job(&job.id.to_string()))
}

/// Returns the current status of a job, with its log on request, and its record.
///
/// # Errors
/// The record does not exist, no longer exists, or is unreadable.
pub(super) async fn now(
    api: &Api,
    job: JobHead,
    with_log: bool,
) -> Result<(JobStatus, JobRecord), ApiError> {
    // The head contains the whole status.
    if job.record.flow.is_none() && !with_log {
        return Ok((JobStatus::of(&job), job.record));
    }
    let record = job.record;
    let (app, id) = (&record.spec.app, record.spec.id);
    let missing = || ApiError::no_such_job(&id.to_string());
    let seen = &mut Seen::default();
    let status = read_status(&api.store, (app, id), seen).await?;
    let status = status.ok_or_else(missing)?;
    let has_ended_since = status.state.is_terminal() && !record.state.is_terminal();
    let record = match has_ended_since {
        true => {
            (api.store.jobs().head_of(app, id).await?)
                .ok_or_else(missing)?
                .record
        }
        false => record,
    };
    Ok((status, record))
}

/// Returns a job's record, with its output if it succeeded.
///
/// # Errors
/// The record no longer exists, or is unreadable.
pub(super) async fn with_output(api: &Api, job: JobHead) -> Result<JobRecord, ApiError> {
    let record = job.record;
    if record.state != JobState::Succeeded {
        return Ok(record);
    }
    let whole = (api
        .store
        .jobs()
        .outcome_of(&record.spec.app, record.spec.id))
    .await?;
    whole.ok_or_else(|| ApiError::no_such_job(&record.spec.id.to_string()))
}

/// A change of a job.
pub(super) struct JobUpdate {
    /// Its status, with new log lines.
    pub(super) status: JobStatus,
    /// New events of its app.
    pub(super) events: Vec<Value>,
    /// Its record, if it has ended: the last update.
    pub(super) end: Option<JobRecord>,
}

/// The updates of one job.
pub(super) struct JobStream {
    api: Api,
    job: JobSpec,
    watch: Waiter,
    with_log: bool,
    /// Number of the app's events that were sent; `None` if they are not updates.
    seen_events: Option<usize>,
    seen: Seen,
    last_sent: Option<JobStatus>,
}

impl JobStream {
    /// Follows `job`. `with_log`: new log lines are updates, too.
    pub(super) fn new(api: Api, job: JobSpec, with_log: bool) -> Self {
        Self {
            watch: api.ended.watch(job.id),
            api,
            job,
            with_log,
            seen_events: None,
            seen: Seen::default(),
            last_sent: None,
        }
    }

    /// Also follows the events of its app.
    pub(super) fn with_events(self) -> Self {
        Self {
            seen_events: Some(0),
            ..self
        }
    }

    /// Returns the followed job.
    pub(super) fn subject(&self) -> (&Api, &JobSpec) {
        (&self.api, &self.job)
    }

    /// Returns the next update, at first the current status; `None` without a record.
    pub(super) async fn next(&mut self) -> Option<JobUpdate> {
        loop {
            match self.read().await {
                Ok(None) => return None,
                Ok(Some(update)) if self.is_news(&update) => {
                    return Some(self.record_sent(update));
                }
                Ok(Some(_)) => {}
                // The job proceeds without Redis, and the client can wait.
                Err(error) => {
                    tracing::debug!(job.id = %self.job.id, %error, "could not read a job's record");
                }
            }
            let _ = tokio::time::timeout(SNAPSHOT_INTERVAL, self.watch.ended()).await;
        }
    }

    async fn read(&mut self) -> Result<Option<JobUpdate>, warmq_store::Error> {
        let (store, app, id) = (&self.api.store, &self.job.app, self.job.id);
        let Some(mut status) = read_status(store, (app, id), &mut self.seen).await? else {
            return Ok(None);
        };
        let end = match status.state.is_terminal() {
            true => store.jobs().outcome_of(app, id).await?,
            false => None,
        };
        if !self.with_log {
            status.log.clear();
        }
        // After the state: the last events are written before the end.
        let events = match &mut self.seen_events {
            Some(seen) if status.state != JobState::Queued => {
                let events = store.log().events(app, id, *seen).await?;
                *seen += events.len();
                events
            }
            _ => Vec::new(),
        };
        Ok(Some(JobUpdate {
            status,
            events,
            end,
        }))
    }

    /// Records the sent status, and removes a preview that was sent before.
    fn record_sent(&mut self, mut update: JobUpdate) -> JobUpdate {
        let status = JobStatus {
            log: Vec::new(),
            ..update.status.clone()
        };
        let before = self.last_sent.replace(status);
        let preview = |last_sent: Option<JobStatus>| last_sent?.progress?.preview;
        if let (Some(progress), Some(known)) = (&mut update.status.progress, preview(before))
            && progress.preview.as_ref() == Some(&known)
        {
            progress.preview = None;
        }
        update
    }

    fn is_news(&self, update: &JobUpdate) -> bool {
        let JobUpdate {
            status,
            events,
            end,
        } = update;
        end.is_some()
            || !events.is_empty()
            || !status.log.is_empty()
            || self.last_sent.as_ref() != Some(status)
    }
}
