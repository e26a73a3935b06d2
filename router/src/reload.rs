//! Reading apps and routes again while jobs come in: all of the file takes effect at once, or, if
//! anything is wrong with it, nothing. Other settings need a restart.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use warmq_config::Problems;

use crate::apps::AppDirectory;
use crate::config::{Args, Config};
use crate::routing_config::RoutingConfig;

/// A cheap handle on the file, and on what it declares to.
#[derive(Clone)]
pub struct Reload {
    args: Arc<Args>,
    apps: AppDirectory,
    /// One at a time: what was read last is to be what counts.
    reading: Arc<Mutex<()>>,
}

impl Reload {
    /// Reads what `args` name into `apps`.
    pub fn new(args: Args, apps: AppDirectory) -> Self {
        Self {
            args: Arc::new(args),
            apps,
            reading: Arc::default(),
        }
    }

    /// Reads the file now. What it declares counts from the next submission on.
    ///
    /// # Errors
    /// Everything that is wrong with it; what was declared before still counts.
    pub async fn now(&self) -> Result<Arc<RoutingConfig>, Problems> {
        let _alone = self.reading.lock().await;
        let args = self.args.clone();
        let read = tokio::task::spawn_blocking(move || Config::read(&args)).await;
        let read = read.unwrap_or_else(|error| {
            let mut problems = Problems::default();
            problems.push(format!("the configuration cannot be read: {error}"));
            Err(problems)
        });
        match read {
            Ok(Config { declared, .. }) => {
                let (apps, routes) = (declared.apps.names().count(), declared.routes.len());
                tracing::info!(apps, routes, "read the configuration again");
                self.apps.declare(declared.clone());
                Ok(declared)
            }
            Err(problems) => {
                tracing::warn!("{problems}; the one before still counts");
                Err(problems)
            }
        }
    }

    /// Reads the file at every SIGHUP, until `shutdown`.
    ///
    /// # Errors
    /// Never.
    pub async fn on_hangup(
        self,
        mut hangups: Hangups,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = hangups.0.recv() => {}
            }
            // Whoever sent the signal reads the log.
            let _ = self.now().await;
        }
    }
}

/// SIGHUP, which ends the process unless it is listened to.
pub struct Hangups(Signal);

impl Hangups {
    /// Listens from now on.
    ///
    /// # Errors
    /// The process may not install signal handlers.
    pub fn listen() -> anyhow::Result<Self> {
        let hangups = signal(SignalKind::hangup());
        hangups.map(Self).context("SIGHUP cannot be listened to")
    }
}
