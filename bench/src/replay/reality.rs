//! A trace through the real thing: RabbitMQ, Redis, a router and `timed` workers, in a namespace of their own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
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
use super::progress::Progress;
use super::submission::{self, Submitted};
use crate::simulator::{JobRun, quantile};
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
    /// How well the plan was kept to.
    pub pace: Pace,
}

/// 99th percentiles over the submissions.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pace {
    /// By how much requests left later than planned, ms.
    pub late_p99_ms: f64,
    /// How long the router took to answer, ms.
    pub answered_p99_ms: f64,
}

/// Runs the jobs of a case, with the processes' logs in `logs`, if wanted.
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
    let run = replay(case, plan, &client, cluster.store()).await;
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
    store: &Store,
) -> anyhow::Result<Reality> {
    let app = AppId::parse(APP)?;
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
        Ok(Reality {
            measures: Measures::of(&job_runs(plan, &records), case.until_s(plan)),
            pace: Pace::of(&submitted),
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

impl Pace {
    fn of(submitted: &[Submitted]) -> Self {
        let p99_ms = |time: fn(&Submitted) -> Duration| {
            let mut times: Vec<f64> = submitted
                .iter()
                .map(|job| time(job).as_secs_f64() * 1000.0)
                .collect();
            times.sort_by(f64::total_cmp);
            quantile(&times, 0.99)
        };
        Self {
            late_p99_ms: p99_ms(|job| job.late),
            answered_p99_ms: p99_ms(|job| job.answered),
        }
    }
}
