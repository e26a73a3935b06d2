//! The records of jobs in the real system.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use crate::simulator::JobRun;
use crate::workload::Planned;

/// Interval at which the last jobs are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Number of records that are fetched concurrently.
const FETCH_CONCURRENCY: usize = 32;

/// Returns the records of `jobs` once all have ended.
///
/// # Errors
/// Redis is unreachable, or a job failed.
pub async fn wait_for_ends(
    store: &Store,
    app: &AppId,
    jobs: &[JobId],
) -> anyhow::Result<Vec<JobRecord>> {
    loop {
        let records = match store.jobs().queue_length(app).await? {
            0 => now(store, app, jobs).await?,
            _ => Vec::new(),
        };
        if !records.is_empty() && records.iter().all(|record| record.state.is_terminal()) {
            let failed = records
                .iter()
                .find(|record| record.state != JobState::Succeeded);
            return match failed {
                Some(record) => bail!(
                    "job {} {}: {:?}",
                    record.spec.id,
                    record.state,
                    record.error
                ),
                None => Ok(records),
            };
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the records of `jobs` as they are.
///
/// # Errors
/// Redis is unreachable, or a record is gone.
pub async fn now(store: &Store, app: &AppId, jobs: &[JobId]) -> anyhow::Result<Vec<JobRecord>> {
    stream::iter(jobs)
        .map(async |job| {
            let record = store.jobs().job_of(app, *job).await?;
            record.with_context(|| format!("job {job} has no record"))
        })
        .buffered(FETCH_CONCURRENCY)
        .try_collect()
        .await
}

/// Writes the records to `records.jsonl` in a folder.
pub fn save(records: &[JobRecord], folder: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(folder.join("records.jsonl"))?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        writeln!(file)?;
    }
    Ok(file.flush()?)
}

/// Returns the runs of the jobs, by Redis' clock; the first one arrived as planned.
pub fn job_runs(plan: &[Planned], records: &[JobRecord]) -> Vec<JobRun> {
    let first = plan.first().zip(records.first());
    let origin_ms = first.map_or(0.0, |(planned, record)| {
        record.spec.created_ms as f64 - planned.at_s * 1000.0
    });
    let at_s = |ms: u64| (ms as f64 - origin_ms) / 1000.0;
    let run = |record: &JobRecord| JobRun {
        arrived_s: at_s(record.spec.created_ms),
        ended_s: record.finished_ms.map(at_s),
        warm: record.timings.map(|timings| timings.warm),
    };
    records.iter().map(run).collect()
}
