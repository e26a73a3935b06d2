//! Waiting for a job's end.

use std::time::Duration;

use warmq_common::job::{JobRecord, JobSpec};

use super::{Api, ApiError};

/// How long an event may be waited for until the record is looked at all the same: one may have been missed.
const LOOK_AFTER: Duration = Duration::from_secs(5);

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
