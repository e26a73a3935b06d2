//! Measures what one faulty runner of four costs: the throughput of three healthy runners and a
//! faulty one against the three alone, with `timed` jobs through RabbitMQ, Redis, a router and
//! workers on this machine.
//!
//! Each job has a stored input. The faulty runner's storage breaks at the start of each round,
//! while all runners are idle: the runner takes a job, cannot read its input, fails its self-test
//! and is left out until the storage is repaired.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use warmq_testkit::{Deployment, Testbed, WorkerOptions, eventually};
use warmq_types::ids::AppId;

use crate::args::FaultsOptions;
use crate::routes::client::SubmitClient;
use crate::routes::records::wait_for_ends;
use crate::simulator::quantile;

/// Apps: of the healthy runners alone, and of those with a faulty one.
const SOUND: &str = "bench/sound";
const MIXED: &str = "bench/mixed";

/// Healthy runners of each app.
const RUNNERS: usize = 3;

/// Size of an input that is stored instead of sent in the message, bytes.
const INPUT_BYTES: usize = 80 << 10;

/// Interval at which records are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Timeout for runners to become idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Measures and prints.
pub fn print(options: &FaultsOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let fleet = TestFleet::start().await?;
        let measured = fleet.rounds(options).await;
        fleet.stop().await?;
        measured
    })
}

/// The processes.
struct TestFleet {
    // Fields drop in order: processes before the testbed, which cleans up.
    deployment: Deployment,
    testbed: Testbed,
    /// The faulty runner's storage.
    folder: PathBuf,
}

/// Jobs of an app, run to their ends.
struct Run {
    /// From the first record to the last end, s.
    seconds: f64,
    /// Attempts beyond one per job.
    wasted: u64,
}

impl TestFleet {
    async fn start() -> anyhow::Result<Self> {
        let testbed = Testbed::builder().start().await?;
        let folder = testbed.folder().join("files-bad");
        let mut workers = Vec::new();
        for i in 0..RUNNERS {
            workers.push(WorkerOptions::timed(&format!("sound-{i}"), SOUND));
            workers.push(WorkerOptions::timed(&format!("mixed-{i}"), MIXED));
        }
        let storage = format!("--storage=file://{}", folder.display());
        workers.push(WorkerOptions::timed("bad", MIXED).args([storage]));
        Ok(Self {
            deployment: Deployment::start(&testbed, workers).await?,
            testbed,
            folder,
        })
    }

    async fn rounds(&self, options: &FaultsOptions) -> anyhow::Result<()> {
        let mut ratios = Vec::new();
        for round in 1..=options.rounds {
            self.idle(SOUND, RUNNERS).await?;
            let sound = self.run(SOUND, options).await?;
            self.idle(MIXED, RUNNERS + 1).await?;
            break_folder(&self.folder)?;
            let mixed = self.run(MIXED, options).await?;
            fs::remove_file(&self.folder)?;
            ensure!(mixed.wasted > 0, "the faulty runner took no job");
            let ratio = sound.seconds / mixed.seconds;
            println!(
                "round {round}: {:.2} s with {RUNNERS} healthy runners, {:.2} s with a faulty one as well, which wasted {} attempts: \
                 throughput × {ratio:.3}",
                sound.seconds, mixed.seconds, mixed.wasted
            );
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "{} jobs of {} ms, none lost; median of {} rounds: throughput × {:.3}",
            options.jobs,
            options.run_ms,
            options.rounds,
            quantile(&ratios, 0.5)
        );
        Ok(())
    }

    /// Submits the jobs and waits until all have succeeded.
    async fn run(&self, app: &str, options: &FaultsOptions) -> anyhow::Result<Run> {
        let client = SubmitClient::new(self.deployment.router.url());
        let input = input(options.run_ms);
        let mut jobs = Vec::new();
        for _ in 0..options.jobs {
            jobs.push(client.submit(app, &input).await?.0);
        }
        let records = wait_for_ends(self.testbed.store(), &jobs, POLL_INTERVAL).await?;
        let begun_ms = records.iter().map(|record| record.spec.created_ms).min();
        let ended_ms = records.iter().filter_map(|record| record.finished_ms).max();
        let ms = ended_ms.unwrap_or(0).saturating_sub(begun_ms.unwrap_or(0));
        let attempts: u64 = records.iter().map(|record| u64::from(record.attempt)).sum();
        Ok(Run {
            seconds: ms as f64 / 1000.0,
            wasted: attempts.saturating_sub(options.jobs),
        })
    }

    /// Waits until `runners` runners of the app are idle.
    async fn idle(&self, app: &str, runners: usize) -> anyhow::Result<()> {
        let app = AppId::parse(app)?;
        let store = self.testbed.store();
        let idle = eventually("the runners are idle", IDLE_TIMEOUT, async || {
            let listed = store.runners().list(&app).await.ok()?;
            let idle = listed.iter().filter(|runner| runner.idle).count();
            (idle == runners).then_some(())
        });
        Ok(idle.await?)
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.deployment.stop().await;
        Ok(self.testbed.cleanup().await?)
    }
}

fn input(run_ms: u64) -> Value {
    json!({"run_ms": run_ms, "output": "x".repeat(INPUT_BYTES)})
}

/// Replaces the folder by a file, so that reads and writes fail.
fn break_folder(folder: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(folder)?;
    fs::write(folder, "no folder")
}
