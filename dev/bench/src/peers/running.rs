//! A running system and its driver.

use std::path::Path;

use tokio::process::Command;
use warmq_testkit::Process as Child;

use super::amqp_driver::AmqpDriver;
use super::bare;
use super::external::Peer;
use super::external::commands::{Programs, WORKERS};
use super::http_driver::HttpDriver;
use super::load::Load;
use super::outcome::{Observed, Outcome};
use super::processor_time::{Part, Process};
use super::servers::Servers;
use super::system::System;
use super::warmq::{FleetSize, Warmq};

/// A system, with workers that wait for jobs. Dropping it kills its processes.
pub enum Running {
    /// warmq, driven by HTTP.
    WarmqHttp(HttpDriver, Warmq),
    /// warmq, driven by AMQP.
    WarmqAmqp(Box<AmqpDriver>, Warmq),
    /// The bare transport: its relay, and its workers.
    Bare(Box<AmqpDriver>, Child, Vec<Child>),
    /// A peer in another language.
    Peer(Peer),
}

impl Running {
    /// Starts a system with some slots per worker. Logs go to `folder`.
    ///
    /// # Errors
    /// A program is not installed, or does not become ready.
    pub async fn start(
        system: System,
        slots: u32,
        programs: &Programs,
        servers: &Servers,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(match system {
            System::WarmqHttp => {
                let warmq = Warmq::start(fleet(slots), servers, folder, None).await?;
                Self::WarmqHttp(warmq.http_driver(0), warmq)
            }
            System::WarmqAmqp => {
                let warmq = Warmq::start(fleet(slots), servers, folder, None).await?;
                Self::WarmqAmqp(Box::new(warmq.amqp_driver().await?), warmq)
            }
            System::Bare => {
                let url = servers.rabbitmq.url();
                bare::declare(url).await?;
                let start = |name: &str, role| start_bare(name, role, slots, servers, folder);
                let relay = start("relay", "relay")?;
                let workers = (1..=WORKERS).map(|n| start(&format!("worker-{n}"), "worker"));
                let workers: anyhow::Result<Vec<Child>> = workers.collect();
                let driver = AmqpDriver::connect(url, bare::submission()).await?;
                Self::Bare(Box::new(driver), relay, workers?)
            }
            System::Celery | System::Dramatiq | System::Rq | System::BullMq => {
                Self::Peer(Peer::start(system, slots, programs, servers, folder).await?)
            }
        })
    }

    /// Returns name and version, if the system reports them.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Peer(peer) => Some(peer.name()),
            Self::WarmqHttp(..) | Self::WarmqAmqp(..) | Self::Bare(..) => None,
        }
    }

    /// Submits the jobs of a load, and reads all results.
    ///
    /// # Errors
    /// A process ended, or a job failed.
    pub async fn run(&mut self, load: &Load) -> anyhow::Result<Observed> {
        match self {
            Self::WarmqHttp(driver, _) => driver.run(load).await,
            Self::WarmqAmqp(driver, _) | Self::Bare(driver, ..) => driver.run(load).await,
            Self::Peer(peer) => peer.run(load).await,
        }
    }

    /// Adds the times that the system recorded.
    ///
    /// # Errors
    /// A job failed.
    pub async fn complete(&self, observed: Observed) -> anyhow::Result<Outcome> {
        let store = match self {
            Self::WarmqHttp(_, warmq) | Self::WarmqAmqp(_, warmq) => Some(warmq.store()),
            Self::Bare(..) | Self::Peer(_) => None,
        };
        observed.complete(store).await
    }

    /// Returns its processes, with the driver's.
    pub fn processes(&self) -> Vec<(Part, Process)> {
        let this = (Part::Driver, Process::Alone(std::process::id()));
        match self {
            Self::WarmqHttp(_, warmq) | Self::WarmqAmqp(_, warmq) => {
                warmq.processes().into_iter().chain([this]).collect()
            }
            Self::Bare(_, relay, workers) => {
                let relay = (Part::Router, Process::Tree(relay.pid()));
                let workers = workers.iter();
                let workers = workers.map(|worker| (Part::Workers, Process::Tree(worker.pid())));
                workers.chain([relay, this]).collect()
            }
            Self::Peer(peer) => peer.processes(),
        }
    }

    /// Stops all processes.
    ///
    /// # Errors
    /// A process does not stop in time.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::WarmqHttp(_, warmq) | Self::WarmqAmqp(_, warmq) => warmq.stop().await,
            Self::Bare(_, mut relay, workers) => {
                // They have nothing to finish.
                for mut worker in workers {
                    worker.kill9().await?;
                }
                Ok(relay.kill9().await?)
            }
            Self::Peer(peer) => peer.stop().await,
        }
    }
}

/// Starts a process of the bare transport: this program in another role.
fn start_bare(
    name: &str,
    role: &str,
    slots: u32,
    servers: &Servers,
    folder: &Path,
) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bare", role, "--slots", &slots.to_string()])
        .env("BENCH_AMQP_URL", servers.rabbitmq.url().expose())
        .env("BENCH_REDIS_URL", servers.redis.url().expose());
    Ok(Child::spawn(command, name, folder)?)
}

/// Returns the size of warmq's fleet: as many processes as the other systems have.
pub fn fleet(slots: u32) -> FleetSize {
    FleetSize {
        workers: WORKERS,
        slots,
    }
}
