//! Measures one system in one round.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::external::commands::Programs;
use super::load::Load;
use super::outcome::Outcome;
use super::processor_time::{Part, Process, Snapshot};
use super::running::Running;
use super::servers::Servers;
use super::system::System;
use crate::args::PeersOptions;
use crate::routes::times::Quantiles;

/// Jobs of the first burst of the warm-up.
const FIRST_JOBS: usize = 50;

/// Jobs of the second burst, at most.
const WARM_UP_JOBS: usize = 300;

/// Duration of a measured burst, at most: a slow system has fewer jobs.
const BURST: Duration = Duration::from_secs(5);

/// Part of its throughput at which a system is measured at most, since beyond it the latency grows
/// with the duration of the measurement.
const MAX_LOAD: f64 = 0.9;

/// Measures of one system with some slots per worker, in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The system.
    pub system: System,
    /// Slots of each worker.
    pub slots: u32,
    /// Its name and version, as reported.
    pub version: Option<String>,
    /// The burst.
    pub burst: BurstMeasures,
    /// The rates, in the order of the options; `None` where the system does not keep up.
    pub rates: Vec<Option<RateMeasures>>,
}

/// Measures of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BurstMeasures {
    /// Jobs.
    pub jobs: usize,
    /// Jobs that ended per second.
    pub ended_per_s: f64,
    /// Submissions that were accepted per second.
    pub submitted_per_s: f64,
    /// Processor time per job.
    pub cost: Cost,
}

/// Measures at a rate of submissions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateMeasures {
    /// Submissions per second.
    pub rate: u32,
    /// From the intended submission to the start of the job.
    pub start: Quantiles,
    /// From the intended submission to its result.
    pub result: Quantiles,
    /// Processor time per job.
    pub cost: Cost,
}

/// Processor time per job, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// The router, or the relay of the bare transport.
    pub router_ms: f64,
    /// The worker processes.
    pub workers_ms: f64,
    /// RabbitMQ.
    pub rabbitmq_ms: f64,
    /// Redis.
    pub redis_ms: f64,
    /// The driver.
    pub driver_ms: f64,
}

impl Cost {
    /// Returns the sum without the driver, ms.
    pub fn total_ms(&self) -> f64 {
        self.router_ms + self.workers_ms + self.rabbitmq_ms + self.redis_ms
    }
}

/// What all measurements share.
pub struct Bench<'a> {
    /// The options.
    pub options: &'a PeersOptions,
    /// The servers.
    pub servers: &'a Servers,
    /// The peers' programs.
    pub programs: &'a Programs,
    /// The folder of logs.
    pub folder: &'a Path,
}

impl Bench<'_> {
    /// Starts a system, warms it up, measures it and stops it. The loads are those of the `round`.
    ///
    /// # Errors
    /// The system does not start, or a job failed.
    pub async fn measure(
        &self,
        system: System,
        slots: u32,
        round: u64,
    ) -> anyhow::Result<Measured> {
        let folder = (self.folder).join(format!("{}-{slots}-{round}", system.name()));
        let running = Running::start(system, slots, self.programs, self.servers, &folder).await;
        let mut running = running.with_context(|| format!("starting {}", system.label()))?;
        let measured = self.measure_running(&mut running, round).await;
        let version = running.version().map(str::to_owned);
        let stopped = running.stop().await;
        let (burst, rates) = measured.with_context(|| format!("measuring {}", system.label()))?;
        stopped.with_context(|| format!("stopping {}", system.label()))?;
        // Each system begins with an empty Redis.
        self.servers.redis.flush().await?;
        Ok(Measured {
            system,
            slots,
            version,
            burst,
            rates,
        })
    }

    async fn measure_running(
        &self,
        running: &mut Running,
        round: u64,
    ) -> anyhow::Result<(BurstMeasures, Vec<Option<RateMeasures>>)> {
        let PeersOptions {
            jobs, rates, seed, ..
        } = self.options;
        let seed = seed + round;
        let per_s = warm_up(running).await?;
        let affordable = (per_s * BURST.as_secs_f64()) as usize;
        let load = Load::Burst(affordable.clamp(1, *jobs as usize));
        let (outcome, cost) = self.run(running, &load).await?;
        let burst = BurstMeasures {
            jobs: load.jobs(),
            ended_per_s: outcome.ended_per_s(),
            submitted_per_s: outcome.submitted_per_s(),
            cost,
        };
        let mut measured = Vec::new();
        for rate in rates {
            let keeps_up = f64::from(*rate) <= MAX_LOAD * burst.ended_per_s;
            measured.push(match keeps_up {
                true => Some(self.measure_rate(running, *rate, seed).await?),
                false => None,
            });
        }
        Ok((burst, measured))
    }

    async fn measure_rate(
        &self,
        running: &mut Running,
        rate: u32,
        seed: u64,
    ) -> anyhow::Result<RateMeasures> {
        let time = Duration::from_secs(self.options.seconds);
        let load = Load::poisson(f64::from(rate), time, seed)?;
        let (outcome, cost) = self.run(running, &load).await?;
        Ok(RateMeasures {
            rate,
            start: outcome.latencies(&load, |job| job.started_us),
            result: outcome.latencies(&load, |job| job.result_us),
            cost,
        })
    }

    /// Runs a load. Returns the processor time per job, too.
    async fn run(&self, running: &mut Running, load: &Load) -> anyhow::Result<(Outcome, Cost)> {
        let mut processes = running.processes();
        processes.extend(self.servers.processes());
        let before = Snapshot::read()?;
        let observed = running.run(load).await?;
        let after = Snapshot::read()?;
        let per_job_ms = |part: Part| -> anyhow::Result<f64> {
            let of_part = processes.iter().filter(|(of, _)| *of == part);
            let processes: Vec<Process> = of_part.map(|(_, process)| *process).collect();
            let time = after.since(&before, &processes)?;
            Ok(time.as_secs_f64() * 1000.0 / load.jobs() as f64)
        };
        let cost = Cost {
            router_ms: per_job_ms(Part::Router)?,
            workers_ms: per_job_ms(Part::Workers)?,
            rabbitmq_ms: per_job_ms(Part::RabbitMq)?,
            redis_ms: per_job_ms(Part::Redis)?,
            driver_ms: per_job_ms(Part::Driver)?,
        };
        Ok((running.complete(observed).await?, cost))
    }
}

/// Runs bursts until all processes are up and warm. Returns the jobs that end per second.
async fn warm_up(running: &mut Running) -> anyhow::Result<f64> {
    let mut per_s = f64::INFINITY;
    for jobs in [FIRST_JOBS, WARM_UP_JOBS] {
        // The first burst includes the start of the workers; a second of a slow system is enough.
        let jobs = jobs.min((per_s * 4.0) as usize).max(FIRST_JOBS);
        let observed = running.run(&Load::Burst(jobs)).await?;
        per_s = running.complete(observed).await?.ended_per_s();
    }
    Ok(per_s)
}
