//! Peers in other languages: their workers and drivers, whose scripts are in `dev/bench/peers`.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`commands`] | the programs and their arguments |
//! | [`protocol`] | the protocol with the drivers |

pub mod commands;
pub mod protocol;

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;
use tokio::time::timeout;
use warmq_testkit::Process;

use super::load::Load;
use super::outcome::Observed;
use super::processor_time::{self, Part};
use super::servers::Servers;
use super::system::System;
use commands::Programs;
use protocol::{DriverConnection, DriverPort};

/// Timeout for a driver's start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout for a load: far above what the slowest peer needs.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Timeout for a process to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The running processes of a peer. Dropping it kills them.
pub struct Peer {
    driver: Process,
    connection: DriverConnection,
    workers: Vec<Process>,
}

impl Peer {
    /// Starts workers with some slots each, and the driver. Logs go to `folder`.
    ///
    /// # Errors
    /// A program is not installed, or the driver does not connect.
    pub async fn start(
        system: System,
        slots: u32,
        programs: &Programs,
        servers: &Servers,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut workers = Vec::new();
        for (number, command) in programs
            .workers(system, slots, servers)?
            .into_iter()
            .enumerate()
        {
            workers.push(Process::spawn(
                command,
                &format!("worker-{number}"),
                folder,
            )?);
        }
        let port = DriverPort::open().await?;
        let command = programs.driver(system, servers, port.address()?)?;
        let driver = Process::spawn(command, "driver", folder)?;
        match timeout(START_TIMEOUT, port.accept()).await {
            Ok(connection) => Ok(Self {
                driver,
                connection: connection?,
                workers,
            }),
            Err(_) => bail!("the driver did not start: {}", driver.log_tail()),
        }
    }

    /// Returns name and version.
    pub fn name(&self) -> &str {
        &self.connection.name
    }

    /// Submits the jobs of a load, and awaits all results.
    ///
    /// # Errors
    /// The driver ended, or does not answer.
    pub async fn run(&mut self, load: &Load) -> anyhow::Result<Observed> {
        match timeout(LOAD_TIMEOUT, self.connection.run(load)).await {
            Ok(Ok(observed)) => Ok(observed),
            Ok(Err(error)) => Err(error.context(self.driver.log_tail())),
            Err(_) => bail!("the driver does not answer: {}", self.driver.log_tail()),
        }
    }

    /// Returns its processes.
    pub fn processes(&self) -> Vec<(Part, processor_time::Process)> {
        let tree = |part, process: &Process| (part, processor_time::Process::Tree(process.pid()));
        let workers = self
            .workers
            .iter()
            .map(|worker| tree(Part::Workers, worker));
        workers.chain([tree(Part::Driver, &self.driver)]).collect()
    }

    /// Stops all processes.
    ///
    /// # Errors
    /// One does not stop in time, and is killed; its children may remain.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self {
            mut driver,
            connection,
            mut workers,
        } = self;
        drop(connection);
        driver.wait(STOP_TIMEOUT).await?;
        let stopped = workers.iter_mut().map(|worker| worker.stop(STOP_TIMEOUT));
        for stopped in join_all(stopped).await {
            stopped?;
        }
        Ok(())
    }
}
