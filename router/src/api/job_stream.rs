//! Following a job to its end, for those who wait at an open connection.

use std::time::Duration;

use warmq_store::JobHead;
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::state::JobState;

use super::standing::{Seen, Standing, standing};
use super::{Api, ApiError};
use crate::ended::Watch;

/// How long an event may be waited for until the record is looked at all the same: one may have been missed.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// How often a job whose way is followed is looked at: no event tells of progress, nor of places in the queue.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The job's record, once it has ended.
///
/// # Errors
/// There is no record of it (any more), or it can not be read at the end.
pub(super) async fn until_ended(api: &Api, job: &JobSpec) -> Result<JobRecord, ApiError> {
    let watch = api.ended.watch(job.id);
    loop {
        match api.store.state_of(&job.app, job.id).await {
            Ok(Some(state)) if state.is_terminal() => break,
            Ok(Some(_)) => {}
            Ok(None) => break,
            // The job goes on without Redis, and so does the wait for it.
            Err(error) => tracing::debug!(job.id = %job.id, %error, "could not look at a job"),
        }
        let _ = tokio::time::timeout(LOOK_AFTER, watch.heard()).await;
    }
    let record = api.store.outcome_of(&job.app, job.id).await?;
    record.ok_or_else(|| ApiError::no_such_job(&job.id.to_string()))
}

/// How a job stands now, with its log if that is wanted; and its record, which says so, too, if it has ended.
///
/// # Errors
/// There is no record of it (any more), or it can not be read.
pub(super) async fn now(
    api: &Api,
    job: JobHead,
    with_log: bool,
) -> Result<(Standing, JobRecord), ApiError> {
    // What the head says is all that there is to say.
    if job.record.flow.is_none() && !with_log {
        return Ok((Standing::of(&job), job.record));
    }
    let record = job.record;
    let (app, id) = (&record.spec.app, record.spec.id);
    let missing = || ApiError::no_such_job(&id.to_string());
    let seen = &mut Seen::default();
    let standing = standing(&api.store, (app, id), seen).await?;
    let standing = standing.ok_or_else(missing)?;
    let has_ended_since = standing.state.is_terminal() && !record.state.is_terminal();
    let record = match has_ended_since {
        true => {
            (api.store.head_of(app, id).await?)
                .ok_or_else(missing)?
                .record
        }
        false => record,
    };
    Ok((standing, record))
}

/// A job's record with its output, if it succeeded.
///
/// # Errors
/// There is no record of it any more, or it can not be read.
pub(super) async fn with_output(api: &Api, job: JobHead) -> Result<JobRecord, ApiError> {
    let record = job.record;
    if record.state != JobState::Succeeded {
        return Ok(record);
    }
    let whole = (api.store.outcome_of(&record.spec.app, record.spec.id)).await?;
    whole.ok_or_else(|| ApiError::no_such_job(&record.spec.id.to_string()))
}

/// Something new about a job.
pub(super) struct News {
    /// How it stands, with the lines of its log that are new.
    pub(super) standing: Standing,
    /// Its record, if it has ended: this news is the last.
    pub(super) end: Option<JobRecord>,
}

/// Whoever wants to hear each news of a job.
pub(super) struct Following {
    api: Api,
    job: JobSpec,
    watch: Watch,
    with_log: bool,
    seen: Seen,
    told: Option<Standing>,
}

impl Following {
    /// Follows `job`. `with_log`: a line of its log is news.
    pub(super) fn new(api: Api, job: JobSpec, with_log: bool) -> Self {
        Self {
            watch: api.ended.watch(job.id),
            api,
            job,
            with_log,
            seen: Seen::default(),
            told: None,
        }
    }

    /// Whom it follows, and where.
    pub(super) fn subject(&self) -> (&Api, &JobSpec) {
        (&self.api, &self.job)
    }

    /// What is new; at first, how the job stands. `None` if there is no record of it (any more).
    pub(super) async fn next(&mut self) -> Option<News> {
        loop {
            match self.look().await {
                Ok(None) => return None,
                Ok(Some(news)) if news.end.is_some() || self.is_news(&news.standing) => {
                    return Some(self.tell(news));
                }
                Ok(Some(_)) => {}
                // The job goes on without Redis, and whoever follows it has time.
                Err(error) => {
                    tracing::debug!(job.id = %self.job.id, %error, "could not look at a job");
                }
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.watch.heard()).await;
        }
    }

    async fn look(&mut self) -> Result<Option<News>, warmq_store::Error> {
        let (store, app, id) = (&self.api.store, &self.job.app, self.job.id);
        let Some(mut standing) = standing(store, (app, id), &mut self.seen).await? else {
            return Ok(None);
        };
        let end = match standing.state.is_terminal() {
            true => store.outcome_of(app, id).await?,
            false => None,
        };
        if !self.with_log {
            standing.log.clear();
        }
        Ok(Some(News { standing, end }))
    }

    /// Remembers what is told. A preview is told once.
    fn tell(&mut self, mut news: News) -> News {
        let standing = Standing {
            log: Vec::new(),
            ..news.standing.clone()
        };
        let before = self.told.replace(standing);
        let preview = |told: Option<Standing>| told?.progress?.preview;
        if let (Some(progress), Some(known)) = (&mut news.standing.progress, preview(before))
            && progress.preview.as_ref() == Some(&known)
        {
            progress.preview = None;
        }
        news
    }

    fn is_news(&self, standing: &Standing) -> bool {
        !standing.log.is_empty() || self.told.as_ref() != Some(standing)
    }
}
