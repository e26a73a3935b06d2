//! Waits for the records of ended jobs.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use warmq_store::Store;
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

/// Number of records that are fetched concurrently.
const FETCH_CONCURRENCY: usize = 16;

/// Returns the record of a job once it has ended; polls at the interval `every`.
///
/// # Errors
/// Redis is unreachable, the record is gone, or the job failed.
pub async fn wait_for_end(store: &Store, id: JobId, every: Duration) -> anyhow::Result<JobRecord> {
    loop {
        let record = store.jobs().job(id).await?;
        let record = record.with_context(|| format!("job {id} has no record"))?;
        if record.state.is_terminal() {
            let JobRecord { state, error, .. } = &record;
            ensure!(*state == JobState::Succeeded, "job {id} {state}: {error:?}");
            return Ok(record);
        }
        tokio::time::sleep(every).await;
    }
}

/// Returns the records of many jobs, in order.
///
/// # Errors
/// As [`wait_for_end`].
pub async fn wait_for_ends(
    store: &Store,
    ids: &[JobId],
    every: Duration,
) -> anyhow::Result<Vec<JobRecord>> {
    stream::iter(ids)
        .map(|id| wait_for_end(store, *id, every))
        .buffered(FETCH_CONCURRENCY)
        .try_collect()
        .await
}
