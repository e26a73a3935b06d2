//! Measures one fleet in one round: idle, at a rate of submissions, and with a burst.

use std::path::Path;
use std::time::Duration;

use super::usage::{Meter, Usage, resident_bytes};
use crate::args::GrowthOptions;
use crate::peers::load::Load;
use crate::peers::processor_time::{Part, Process};
use crate::peers::servers::Servers;
use crate::peers::warmq::{FleetSize, Warmq};

/// Run time of the burst's jobs, ms.
pub const BURST_RUN_MS: u64 = 200;

/// Time after the start in which nothing is measured: first heartbeats, and RabbitMQ, whose idle
/// queues and channels hibernate after up to 10 s and report statistics every 5 s until then.
const SETTLING: Duration = Duration::from_secs(15);

/// A fleet and its jobs.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Its runners.
    pub size: FleetSize,
    /// Run time of the jobs at the rate, ms.
    pub run_ms: u64,
    /// Whether the burst is measured.
    pub takes_burst: bool,
}

/// Measures of a fleet.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Without jobs.
    pub idle: Usage,
    /// Resident memory of the router without jobs, bytes.
    pub router_bytes: u64,
    /// Resident memory of a worker process without jobs, bytes, on average.
    pub worker_bytes: u64,
    /// At the rate.
    pub loaded: Usage,
    /// Jobs at the rate.
    pub loaded_jobs: usize,
    /// The burst.
    pub burst: Option<Burst>,
}

/// Measures of a burst.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// From the first submission to the last end of a job, s.
    pub took_s: f64,
    /// The same if neither submissions nor placements took any time, s.
    pub ideal_s: f64,
    /// Until all results were read.
    pub usage: Usage,
}

impl Measured {
    /// Returns a part's processor time per job, without what it uses without jobs, ms.
    pub fn job_ms(&self, part: Part) -> f64 {
        let idle_s = self.idle.cores(part) * self.loaded.elapsed.as_secs_f64();
        let busy_s = self.loaded.of(part).as_secs_f64() - idle_s;
        1e3 * busy_s.max(0.0) / self.loaded_jobs as f64
    }
}

/// Starts a fleet, measures it and stops it. Its arrivals are those of the `round`.
///
/// # Errors
/// The fleet does not start, or a job failed.
pub async fn measure(
    fleet: Fleet,
    options: &GrowthOptions,
    round: u64,
    servers: &Servers,
    folder: &Path,
) -> anyhow::Result<Measured> {
    let warmq = Warmq::start(fleet.size, servers, folder, None).await?;
    let measured = measure_running(&warmq, fleet, options, round, servers).await;
    warmq.stop().await?;
    measured
}

async fn measure_running(
    warmq: &Warmq,
    fleet: Fleet,
    options: &GrowthOptions,
    round: u64,
    servers: &Servers,
) -> anyhow::Result<Measured> {
    let mut processes = warmq.processes();
    processes.extend(servers.processes());
    processes.push((Part::Driver, Process::Alone(std::process::id())));
    let time = Duration::from_secs(options.seconds);

    tokio::time::sleep(SETTLING).await;
    let meter = Meter::start(&processes)?;
    tokio::time::sleep(time).await;
    let idle = meter.read()?;
    let router_bytes = resident(&processes, Part::Router)?;
    let worker_bytes = resident(&processes, Part::Workers)? / u64::from(fleet.size.workers);

    let load = Load::poisson(options.rate.into(), time, 1 + round)?;
    let driver = warmq.http_driver(fleet.run_ms);
    let meter = Meter::start(&processes)?;
    driver.run(&load).await?;
    let loaded = meter.read()?;

    let burst = match fleet.takes_burst {
        true => Some(burst(warmq, fleet, options.jobs, &processes).await?),
        false => None,
    };
    Ok(Measured {
        idle,
        router_bytes,
        worker_bytes,
        loaded,
        loaded_jobs: load.jobs(),
        burst,
    })
}

async fn burst(
    warmq: &Warmq,
    fleet: Fleet,
    jobs: u32,
    processes: &[(Part, Process)],
) -> anyhow::Result<Burst> {
    let load = Load::Burst(jobs as usize);
    let meter = Meter::start(processes)?;
    let observed = warmq.http_driver(BURST_RUN_MS).run(&load).await?;
    let usage = meter.read()?;
    let outcome = observed.complete(Some(warmq.store())).await?;
    let runs_each = jobs.div_ceil(fleet.size.runners());
    Ok(Burst {
        took_s: f64::from(jobs) / outcome.ended_per_s(),
        ideal_s: f64::from(runs_each) * BURST_RUN_MS as f64 / 1e3,
        usage,
    })
}

/// Returns the resident memory of a part's processes, bytes.
///
/// # Errors
/// A process has ended.
pub fn resident(processes: &[(Part, Process)], part: Part) -> anyhow::Result<u64> {
    let of_part = processes.iter().filter(|(of, _)| *of == part);
    of_part.map(|(_, process)| resident_bytes(*process)).sum()
}
