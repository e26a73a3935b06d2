//! JobStream a job to its end, for those who wait at an open connection.

use std::time::Duration;

use warmq_store::JobHead;
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::state::JobState;

use super::job_status::{JobStatus, Seen, read_status};
use super::{Api, ApiError};
use crate::completions::Waiter;

/// How long an event may be waited for until the record is looked at all the same: one may have
/// been missed.
const RECORD_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How often a job whose way is followed is looked at: no event tells of progress, nor of places in
/// the queue.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(250);

/// The job's record, once it has ended.
///
/// # Errors
/// There is no record of it (any more), or it cannot be read at the end.
pub(super) async fn until_ended(api: &Api, job: &JobSpec) -> Result<JobRecord, ApiError> {
    let watch = api.ended.watch(job.id);
    loop {
        match api.store.jobs().state_of(&job.app, job.id).await {
            Ok(Some(state)) if state.is_terminal() => break,
            Ok(Some(_)) => {}
            Ok(None) => break,
            // The job goes on without Redis, and so does the wait for it.
            Err(error) => {
                tracing::debug!(job.id = %job.id, %error, "could not read a job's record")
            }
        }
        let _ = tokio::time::timeout(RECORD_POLL_INTERVAL, watch.heard()).await;
    }
    let record = api.store.jobs().outcome_of(&job.app, job.id).await?;
    record.ok_or_else(|| ApiError::no_such_job(&job.id.to_string()))
}

/// How a job stands now, with its log if that is wanted; and its record, which says so, too, if it
/// has ended.
///
/// # Errors
/// There is no record of it (any more), or it cannot be read.
pub(super) async fn now(
    api: &Api,
    job: JobHead,
    with_log: bool,
) -> Result<(JobStatus, JobRecord), ApiError> {
    // What the head says is all that there is to say.
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

/// A job's record with its output, if it succeeded.
///
/// # Errors
/// There is no record of it any more, or it cannot be read.
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

/// Something new about a job.
pub(super) struct JobUpdate {
    /// How it stands, with the lines of its log that are new.
    pub(super) status: JobStatus,
    /// Its record, if it has ended: this news is the last.
    pub(super) end: Option<JobRecord>,
}

/// Whoever wants to hear each news of a job.
pub(super) struct JobStream {
    api: Api,
    job: JobSpec,
    watch: Waiter,
    with_log: bool,
    seen: Seen,
    last_sent: Option<JobStatus>,
}

impl JobStream {
    /// Follows `job`. `with_log`: a line of its log is news.
    pub(super) fn new(api: Api, job: JobSpec, with_log: bool) -> Self {
        Self {
            watch: api.ended.watch(job.id),
            api,
            job,
            with_log,
            seen: Seen::default(),
            last_sent: None,
        }
    }

    /// Whom it follows, and where.
    pub(super) fn subject(&self) -> (&Api, &JobSpec) {
        (&self.api, &self.job)
    }

    /// What is new; at first, how the job stands. `None` if there is no record of it (any more).
    pub(super) async fn next(&mut self) -> Option<JobUpdate> {
        loop {
            match self.read().await {
                Ok(None) => return None,
                Ok(Some(update)) if update.end.is_some() || self.has_changed(&update.status) => {
                    return Some(self.record_sent(update));
                }
                Ok(Some(_)) => {}
                // The job goes on without Redis, and whoever follows it has time.
                Err(error) => {
                    tracing::debug!(job.id = %self.job.id, %error, "could not read a job's record");
                }
            }
            let _ = tokio::time::timeout(SNAPSHOT_INTERVAL, self.watch.heard()).await;
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
        Ok(Some(JobUpdate { status, end }))
    }

    /// Remembers what is told. A preview is told once.
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

    fn has_changed(&self, status: &JobStatus) -> bool {
        !status.log.is_empty() || self.last_sent.as_ref() != Some(status)
    }
}
