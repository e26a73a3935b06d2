//! Errors of a testbed, each with a remedy or a log.

use std::path::PathBuf;
use std::time::Duration;

use crate::eventually::TimedOut;

/// Why a testbed or one of its processes failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is not built.
    #[error("{name} is not beside {}: run `cargo build --workspace --bins` (with --release for a release build)", near.display())]
    NoBinary {
        /// Name of the program or process.
        name: &'static str,
        /// The folder that was searched.
        near: PathBuf,
    },
    /// The program of a private server is not installed.
    #[error(
        "{program} is not installed (Debian: `sudo apt-get install {package}`, or `make setup`)"
    )]
    NoServer {
        /// Name of the program.
        program: &'static str,
        /// Its package.
        package: &'static str,
    },
    /// A setting of the environment or of the caller is wrong.
    #[error("{what}: {reason}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// The reason.
        reason: String,
    },
    /// A file or process cannot be created or used.
    #[error("{what}: {source}")]
    Io {
        /// The failed operation.
        what: String,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The process ended before it was ready.
    #[error("{name} ended before it was ready ({status}). The end of its log ({}):\n{tail}", log.display())]
    Ended {
        /// Name of the program or process.
        name: String,
        /// Exit status.
        status: std::process::ExitStatus,
        /// Path of the log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The process runs but is not ready.
    #[error("{name} was not ready within {} s. The end of its log ({}):\n{tail}", waited.as_secs(), log.display())]
    NotReady {
        /// Its name.
        name: String,
        /// The timeout.
        waited: Duration,
        /// Path of the log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The process is gone and cannot be signalled.
    #[error("{name} cannot be signalled: {source}")]
    Signal {
        /// Name of the process.
        name: String,
        /// Error of the system.
        source: nix::Error,
    },
    /// A condition did not come true.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ is away.
    #[error(transparent)]
    Amqp(#[from] warmq_broker::PublishError),
    /// RabbitMQ refused to delete something.
    #[error("RabbitMQ: {0}")]
    Lapin(#[from] lapin::Error),
    /// Redis refused to delete something.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
