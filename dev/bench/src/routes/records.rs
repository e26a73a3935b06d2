//! The records of jobs that were submitted, once they have ended.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use warmq_store::Store;
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

/// Records that are fetched at once.
const FETCH_CONCURRENCY: usize = 16;

/// The record of a job once it has ended; looked for every so often.
///
/// # Errors
/// Redis is away, the record is gone, or the job failed.
pub async fn wait_for_end(store: &Store, id: JobId, every: Duration) -> anyhow::Result<JobRecord> {
    loop {
        let record = store.job(id).await?;
        let record = record.with_context(|| format!("job {id} has no record"))?;
        if record.state.is_terminal() {
            let JobRecord { state, error, .. } = &record;
            ensure!(*state == JobState::Succeeded, "job {id} {state}: {error:?}");
            return Ok(record);
        }
        tokio::time::sleep(every).await;
    }
}

/// The same of many, in their order.
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
