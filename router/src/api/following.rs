//! Following a job to its end, for those who wait at an open connection.

use std::time::Duration;

use warmq_common::job::{JobRecord, JobSpec};
use warmq_common::store::{self, Glance};

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
    let record = api.store.job_of(&job.app, job.id).await?;
    record.ok_or_else(|| ApiError::no_such_job(&job.id.to_string()))
}

/// Something new about a job.
pub(super) struct News {
    /// How it stands, with the lines of its log that are new.
    pub(super) glance: Glance,
    /// Its record, if it has ended: this news is the last.
    pub(super) end: Option<JobRecord>,
}

/// Whoever wants to hear each news of a job.
pub(super) struct Following {
    api: Api,
    job: JobSpec,
    watch: Watch,
    with_log: bool,
    /// Lines of the log that were told.
    seen: usize,
    told: Option<Glance>,
}

impl Following {
    /// Follows `job`. `with_log`: a line of its log is news.
    pub(super) fn new(api: Api, job: JobSpec, with_log: bool) -> Self {
        Self {
            watch: api.ended.watch(job.id),
            api,
            job,
            with_log,
            seen: 0,
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
                Ok(Some(news)) if news.end.is_some() || self.is_news(&news.glance) => {
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

    async fn look(&mut self) -> Result<Option<News>, store::Error> {
        let (store, app, id) = (&self.api.store, &self.job.app, self.job.id);
        let Some(mut glance) = store.glance(app, id, self.seen).await? else {
            return Ok(None);
        };
        let end = match glance.state.is_terminal() {
            true => store.job_of(app, id).await?,
            false => None,
        };
        match self.with_log {
            true => self.seen += glance.log.len(),
            false => glance.log.clear(),
        }
        Ok(Some(News { glance, end }))
    }

    /// Remembers what is told. A preview is told once.
    fn tell(&mut self, mut news: News) -> News {
        let glance = Glance {
            log: Vec::new(),
            ..news.glance.clone()
        };
        let before = self.told.replace(glance);
        let preview = |glance: Option<Glance>| glance?.progress?.preview;
        if let (Some(progress), Some(known)) = (&mut news.glance.progress, preview(before))
            && progress.preview.as_ref() == Some(&known)
        {
            progress.preview = None;
        }
        news
    }

    fn is_news(&self, glance: &Glance) -> bool {
        !glance.log.is_empty()
            || self.told.as_ref().is_none_or(|told| {
                (told.state, told.queue_position, &told.progress)
                    != (glance.state, glance.queue_position, &glance.progress)
            })
    }
}
