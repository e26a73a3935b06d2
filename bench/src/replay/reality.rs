//! A trace through the real thing: RabbitMQ, Redis, a router and `timed` workers, in a namespace of their own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use tokio::time::Instant;
use warmq_cli::client::{Client, Submission};
use warmq_cluster::{Cluster, Router, Worker, WorkerOptions, eventually};
use warmq_common::ids::{AppId, JobId};
use warmq_common::job::JobRecord;
use warmq_common::state::JobState;
use warmq_common::store::Store;

use super::case::{Case, Expected, RUN_S, RUNNERS, SLOTS};
use super::measures::Measures;
use super::overheads::Overheads;
use super::progress::Progress;
use super::submission;
use crate::simulator::JobRun;
use crate::workload::Planned;

/// The app that the jobs are for.
const APP: &str = "bench/timed";

/// How long the first job may take: the dispatcher starts with it.
const FIRST_JOB: Duration = Duration::from_secs(30);

/// How often it is looked whether the last jobs have ended.
const LOOK: Duration = Duration::from_millis(250);

/// How long a process may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// Records that are fetched at once.
const FETCHES: usize = 32;

/// What the real system did.
#[derive(Debug)]
pub struct Reality {
    /// The measures.
    pub measures: Measures,
    /// What the simulator does not know.
    pub overheads: Overheads,
}

/// The jobs' records, beside the processes' logs.
const RECORDS: &str = "records.jsonl";

/// Runs the jobs of a case. The processes' logs and the jobs' records stay in `logs`, if given.
///
/// # Errors
/// A server is away, a program is not built, a job fails, or jobs stop ending.
pub async fn run(case: &Case, plan: &[Planned], logs: Option<PathBuf>) -> anyhow::Result<Reality> {
    let mut cluster = Cluster::builder().config(case.toml(APP));
    if let Some(logs) = logs {
        cluster = cluster.folder(logs);
    }
    let cluster = cluster.start().await?;
    let fleet = Fleet::start(&cluster).await?;
    let client = Client::new(fleet.router.url(), None)?;
    let run = replay(case, plan, &client, &cluster).await;
    fleet.stop().await;
    cluster.cleanup().await?;
    run
}

/// The processes. Dropping it kills them.
struct Fleet {
    router: Router,
    workers: Vec<Worker>,
}

impl Fleet {
    async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let router = cluster.router(&[]).await?;
        let workers = (0..RUNNERS).map(|number| {
            cluster.worker(WorkerOptions {
                slots: Some(SLOTS),
                ..WorkerOptions::timed(&format!("runner-{number}"), APP)
            })
        });
        let workers = try_join_all(workers).await?;
        Ok(Self { router, workers })
    }

    /// Asks all processes to stop. Those that do not are killed as they are dropped.
    async fn stop(mut self) {
        let workers = self.workers.iter_mut().map(|worker| &mut **worker);
        let processes = workers.chain([&mut *self.router]);
        join_all(processes.map(async |process| {
            if process.terminate().is_ok() {
                process.wait(STOP).await.ok();
            }
        }))
        .await;
    }
}

async fn replay(
    case: &Case,
    plan: &[Planned],
    client: &Client,
    cluster: &Cluster,
) -> anyhow::Result<Reality> {
    let app = AppId::parse(APP)?;
    let store = cluster.store();
    run_first_job(client, store, &app).await?;
    let progress = Progress::new(&case.name(), plan.len());
    let run = async {
        let begin = Instant::now();
        let submitted =
            submission::submit(client, &app, plan, begin, || progress.submitted()).await?;
        let jobs: Vec<JobId> = submitted.iter().map(|job| job.id).collect();
        let records = match case.expected {
            Expected::Agreement => ended_records(store, &app, &jobs).await?,
            Expected::Collapse => records(store, &app, &jobs).await?,
        };
        write(&records, &cluster.folder().join(RECORDS))?;
        Ok(Reality {
            measures: Measures::of(&job_runs(plan, &records), case.until_s(plan)),
            overheads: Overheads::of(&submitted, &records),
        })
    };
    tokio::select! {
        done = run => done,
        broken = progress.follow(store, &app) => match broken? {},
    }
}

/// A job without a hint, which leaves all runners cold: once it has ended, every part of the system is up.
async fn run_first_job(client: &Client, store: &Store, app: &AppId) -> anyhow::Result<()> {
    let input = json!({"run_ms": (RUN_S * 1000.0) as u64});
    let first = Submission::new(app.clone(), input);
    let id = client.submit(&first).await?.request_id;
    let ended = async || {
        let record = store.job_of(app, id).await.ok()??;
        record.state.is_terminal().then_some(())
    };
    Ok(eventually("a first job ended", FIRST_JOB, ended).await?)
}

/// The jobs' records, once all have ended.
async fn ended_records(
    store: &Store,
    app: &AppId,
    jobs: &[JobId],
) -> anyhow::Result<Vec<JobRecord>> {
    loop {
        let records = match store.queue_length(app).await? {
            0 => records(store, app, jobs).await?,
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
        tokio::time::sleep(LOOK).await;
    }
}

/// The jobs' records as they are.
async fn records(store: &Store, app: &AppId, jobs: &[JobId]) -> anyhow::Result<Vec<JobRecord>> {
    stream::iter(jobs)
        .map(async |job| {
            let record = store.job_of(app, *job).await?;
            record.with_context(|| format!("job {job} has no record"))
        })
        .buffered(FETCHES)
        .try_collect()
        .await
}

fn write(records: &[JobRecord], path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        writeln!(file)?;
    }
    Ok(file.flush()?)
}

/// The records as runs, by Redis' clock: the first job arrived as planned.
fn job_runs(plan: &[Planned], records: &[JobRecord]) -> Vec<JobRun> {
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
