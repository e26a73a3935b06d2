//! Measures what a long queue costs: submissions, statuses with their queue position, and memory.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use futures::TryStreamExt;
use indicatif::ProgressBar;
use warmq_types::ids::JobId;

use super::measurement::resident;
use crate::peers::http_driver::HttpDriver;
use crate::peers::processor_time::Part;
use crate::peers::servers::Servers;
use crate::peers::warmq::{FleetSize, Warmq};
use crate::sweep::median;

/// Numbers of waiting jobs at which it is measured.
const LENGTHS: [usize; 3] = [1_000, 10_000, 100_000];

/// Submissions, and statuses, per measurement.
const PROBES: usize = 200;

/// No runner: all jobs wait.
const NO_RUNNERS: FleetSize = FleetSize {
    workers: 0,
    slots: 0,
};

/// Measures at one length of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// Waiting jobs at the begin of the measurement.
    pub jobs: usize,
    /// Submissions per second, 32 at a time, on the way to this length.
    pub submitted_per_s: f64,
    /// Time of a submission alone, median, ms.
    pub submit_ms: f64,
    /// Time of a job's status, with its position, median, ms.
    pub status_ms: f64,
    /// Resident memory of the router, bytes.
    pub router_bytes: u64,
    /// Resident memory of Redis, bytes.
    pub redis_bytes: u64,
    /// Resident memory of RabbitMQ, bytes.
    pub rabbitmq_bytes: u64,
}

/// Submits jobs that no runner takes, and measures at each length of the queue.
///
/// # Errors
/// The router does not start, or refuses a job.
pub async fn measure(servers: &Servers, folder: &Path) -> anyhow::Result<Vec<Backlog>> {
    std::fs::create_dir_all(folder)?;
    let warmq = Warmq::start(NO_RUNNERS, servers, folder, None).await?;
    let measured = measure_running(&warmq, servers).await;
    warmq.stop().await?;
    measured
}

async fn measure_running(warmq: &Warmq, servers: &Servers) -> anyhow::Result<Vec<Backlog>> {
    let driver = warmq.http_driver(0);
    let mut processes = warmq.processes();
    processes.extend(servers.processes());
    let mut ids = Vec::new();
    let mut measured = Vec::new();
    for jobs in LENGTHS {
        let more = jobs - ids.len();
        let bar = ProgressBar::new(more as u64);
        let begun = Instant::now();
        let submitted = driver.submissions(more).inspect_ok(|_| bar.inc(1));
        ids.extend(submitted.try_collect::<Vec<JobId>>().await?);
        let submitted_per_s = more as f64 / begun.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let (submit_ms, status_ms) = probe(&driver, &mut ids).await?;
        measured.push(Backlog {
            jobs,
            submitted_per_s,
            submit_ms,
            status_ms,
            router_bytes: resident(&processes, Part::Router)?,
            redis_bytes: resident(&processes, Part::Redis)?,
            rabbitmq_bytes: resident(&processes, Part::RabbitMq)?,
        });
    }
    Ok(measured)
}

/// Measures submissions, whose ids it adds, and statuses of jobs from all parts of the queue.
/// Returns the medians, ms.
async fn probe(driver: &HttpDriver, ids: &mut Vec<JobId>) -> anyhow::Result<(f64, f64)> {
    let mut submit_ms = Vec::new();
    let mut status_ms = Vec::new();
    let every = ids.len() / PROBES;
    let probed: Vec<JobId> = ids.iter().copied().step_by(every).collect();
    for id in probed {
        let begun = Instant::now();
        ids.push(driver.submit().await?);
        submit_ms.push(1e3 * begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let status = driver.status(id).await?;
        status_ms.push(1e3 * begun.elapsed().as_secs_f64());
        ensure!(status["queue_position"].is_u64(), "not waiting: {status}");
    }
    Ok((median(submit_ms.into_iter()), median(status_ms.into_iter())))
}
