//! Runs a trace through RabbitMQ, Redis, a router and `timed` workers, in a namespace of its own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use warmq_cli::client::{Client, Submission};
use warmq_store::Store;
use warmq_testkit::{Deployment, Testbed, WorkerOptions, eventually};
use warmq_types::ids::{AppId, JobId};

use super::case::{Case, Expected, RUN_S, RUNNERS, SLOTS};
use super::measures::Measures;
use super::overheads::Overheads;
use super::progress::Progress;
use super::{records, submission};
use crate::workload::Planned;

/// The app of the jobs.
const APP: &str = "bench/timed";

/// Timeout for the first job, with which the dispatcher starts.
const FIRST_JOB_TIMEOUT: Duration = Duration::from_secs(30);

/// Measures of the real system.
#[derive(Debug)]
pub struct Reality {
    /// The measures.
    pub measures: Measures,
    /// Its overheads.
    pub overheads: Overheads,
}

/// Runs the jobs of a case. Logs and records stay in `logs`, if given.
///
/// # Errors
/// A server is unreachable, a program is not built, a job fails, or the run stalls.
pub async fn run(case: &Case, plan: &[Planned], logs: Option<PathBuf>) -> anyhow::Result<Reality> {
    let mut testbed = Testbed::builder().config(case.toml(APP));
    if let Some(logs) = logs {
        testbed = testbed.folder(logs);
    }
    let testbed = testbed.start().await?;
    let workers = (0..RUNNERS).map(|number| WorkerOptions {
        slots: Some(SLOTS),
        ..WorkerOptions::timed(&format!("runner-{number}"), APP)
    });
    let deployment = Deployment::start(&testbed, workers).await?;
    let client = Client::new(deployment.router.url(), None)?;
    let run = replay(case, plan, &client, &testbed).await;
    deployment.stop().await;
    testbed.cleanup().await?;
    run
}

async fn replay(
    case: &Case,
    plan: &[Planned],
    client: &Client,
    testbed: &Testbed,
) -> anyhow::Result<Reality> {
    let app = AppId::parse(APP)?;
    let store = testbed.store();
    run_first_job(client, store, &app).await?;
    let progress = Progress::new(&case.name(), plan.len());
    let run = async {
        let begin = Instant::now();
        let submitted =
            submission::submit(client, &app, plan, begin, || progress.submitted()).await?;
        let jobs: Vec<JobId> = submitted.iter().map(|job| job.id).collect();
        let records = match case.expected {
            Expected::Agreement => records::wait_for_ends(store, &app, &jobs).await?,
            Expected::Collapse => records::now(store, &app, &jobs).await?,
        };
        records::save(&records, testbed.folder())?;
        Ok(Reality {
            measures: Measures::of(&records::job_runs(plan, &records), case.until_s(plan)),
            overheads: Overheads::of(&submitted, &records),
        })
    };
    tokio::select! {
        done = run => done,
        broken = progress.follow(store, &app) => match broken? {},
    }
}

/// Runs a job without a hint, which leaves all runners cold, so that every part of the system is
/// up.
async fn run_first_job(client: &Client, store: &Store, app: &AppId) -> anyhow::Result<()> {
    let input = json!({"run_ms": (RUN_S * 1000.0) as u64});
    let first = Submission::new(app.clone(), input);
    let id = client.submit(&first).await?.request_id;
    let ended = async || {
        let record = store.jobs().job_of(app, id).await.ok()??;
        record.state.is_terminal().then_some(())
    };
    Ok(eventually("a first job ended", FIRST_JOB_TIMEOUT, ended).await?)
}
