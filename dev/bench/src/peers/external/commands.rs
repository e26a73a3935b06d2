//! The programs of the peers and their arguments.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use tokio::process::Command;

use crate::peers::servers::Servers;
use crate::peers::system::System;

/// Worker processes of each system.
pub const WORKERS: u32 = 2;

/// Folders of the installed peers.
#[derive(Debug)]
pub struct Programs {
    /// Programs of the virtual environment.
    python: PathBuf,
    /// The scripts, beside Node's modules.
    scripts: PathBuf,
}

impl Programs {
    /// Takes the folders of the virtual environment and of the scripts.
    ///
    /// # Errors
    /// The current folder is unknown.
    pub fn new(environment: &Path, scripts: &Path) -> std::io::Result<Self> {
        Ok(Self {
            python: std::path::absolute(environment)?.join("bin"),
            scripts: std::path::absolute(scripts)?,
        })
    }

    /// Returns the commands of a peer's workers: [`WORKERS`] processes with `slots` each.
    ///
    /// # Errors
    /// The peer is not installed.
    pub fn workers(
        &self,
        system: System,
        slots: u32,
        servers: &Servers,
    ) -> anyhow::Result<Vec<Command>> {
        // One command starts all processes of Dramatiq.
        if system == System::Dramatiq {
            return Ok(vec![self.dramatiq(slots, servers)?]);
        }
        let worker = |number| self.worker(system, number, slots, servers);
        (1..=WORKERS).map(worker).collect()
    }

    fn worker(
        &self,
        system: System,
        number: u32,
        slots: u32,
        servers: &Servers,
    ) -> anyhow::Result<Command> {
        let slots = slots.to_string();
        let mut command = match system {
            System::Celery => self.python("celery", servers)?,
            System::Rq => self.python("rq", servers)?,
            _ => self.node(servers)?,
        };
        match system {
            System::Celery => command
                .args(["-A", "celery_peer", "worker", "--loglevel", "ERROR"])
                .args(["--concurrency", &slots, "--hostname"])
                .arg(format!("{number}@%h")),
            // Each of its workers runs one job at a time, in a process that it forks for the job.
            System::Rq => command
                .args(["worker-pool", "bench", "--quiet", "--num-workers", &slots])
                .args(["--url", servers.redis.url().expose()]),
            _ => command.args(["worker", &slots]),
        };
        Ok(command)
    }

    fn dramatiq(&self, slots: u32, servers: &Servers) -> anyhow::Result<Command> {
        let (workers, slots) = (WORKERS.to_string(), slots.to_string());
        let mut command = self.python("dramatiq", servers)?;
        command
            .args([
                "dramatiq_peer",
                "--processes",
                &workers,
                "--threads",
                &slots,
            ])
            // Each slot holds one message.
            .env("dramatiq_queue_prefetch", slots);
        Ok(command)
    }

    /// Returns the command of a peer's driver, which connects to `bench`.
    ///
    /// # Errors
    /// The peer is not installed, or has no script.
    pub fn driver(
        &self,
        system: System,
        servers: &Servers,
        bench: SocketAddr,
    ) -> anyhow::Result<Command> {
        let mut command = match system {
            System::Celery | System::Dramatiq | System::Rq => {
                let mut command = self.python("python", servers)?;
                let script = format!("{}_peer.py", system.name());
                command.arg(self.scripts.join(script));
                command
            }
            System::BullMq => self.node(servers)?,
            _ => bail!("{} has no script", system.name()),
        };
        command.env("BENCH_DRIVER", bench.to_string());
        Ok(command)
    }

    /// Returns the command of a program of the virtual environment.
    fn python(&self, program: &str, servers: &Servers) -> anyhow::Result<Command> {
        let mut command = Command::new(installed(self.python.join(program))?);
        command
            .env("PYTHONPATH", &self.scripts)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        self.with_servers(&mut command, servers);
        Ok(command)
    }

    /// Returns the command of BullMQ's script.
    fn node(&self, servers: &Servers) -> anyhow::Result<Command> {
        installed(self.scripts.join("node_modules/bullmq"))?;
        let mut command = Command::new("node");
        command.arg(self.scripts.join("bullmq_peer.mjs"));
        self.with_servers(&mut command, servers);
        Ok(command)
    }

    fn with_servers(&self, command: &mut Command, servers: &Servers) {
        command
            .env("BENCH_AMQP_URL", servers.rabbitmq.url().expose())
            .env("BENCH_REDIS_URL", servers.redis.url().expose());
    }
}

fn installed(path: PathBuf) -> anyhow::Result<PathBuf> {
    let exists = path.exists();
    ensure!(
        exists,
        "{}: not installed: run `make bench-peers`",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_not_installed_is_reported_with_the_command_that_installs_it() {
        let error = installed("/no/where/celery".into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("make bench-peers"), "{error}");
    }
}
