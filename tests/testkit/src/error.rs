//! What can go wrong with a cluster, each with what to do or where to look.

use std::path::PathBuf;
use std::time::Duration;

use crate::eventually::TimedOut;

/// Why a cluster, or one of its processes, is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is not built.
    #[error("{name} is not beside {}: run `cargo build --workspace --bins` (with --release for a release build)", near.display())]
    NoBinary {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        near: PathBuf,
    },
    /// A server that a test wants for itself is not installed.
    #[error(
        "{program} is not installed (Debian: `sudo apt-get install {package}`, or `make setup`)"
    )]
    NoServer {
        /// Its program.
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// A setting of the environment or of the caller is wrong.
    #[error("{what}: {reason}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or process could not be made or used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The process ended before it was ready.
    #[error("{name} ended before it was ready ({status}). The end of its log ({}):\n{tail}", log.display())]
    Ended {
        /// Its name.
        name: String,
        /// How.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The process lives but is not ready.
    #[error("{name} was not ready within {} s. The end of its log ({}):\n{tail}", waited.as_secs(), log.display())]
    NotReady {
        /// Its name.
        name: String,
        /// The bound.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The process could not be signalled: it is gone.
    #[error("{name} can not be signalled: {source}")]
    Signal {
        /// Its name.
        name: String,
        /// The system's reason.
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
