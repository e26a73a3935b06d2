//! Reloads apps and routes at runtime, all or nothing. Other settings need a restart.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use warmq_config::Problems;

use crate::apps::AppDirectory;
use crate::config::{Args, Config};
use crate::routing_config::RoutingConfig;

/// A cheap handle for reloads.
#[derive(Clone)]
pub struct Reload {
    args: Arc<Args>,
    apps: AppDirectory,
    /// One reload at a time, so that the last one read is the one in effect.
    reading: Arc<Mutex<()>>,
}

impl Reload {
    /// Returns a handle that loads the file of `args` into `apps`.
    pub fn new(args: Args, apps: AppDirectory) -> Self {
        Self {
            args: Arc::new(args),
            apps,
            reading: Arc::default(),
        }
    }

    /// Reloads the file. Its declarations apply from the next submission on.
    ///
    /// # Errors
    /// All mistakes in the file; the earlier declarations stay in effect.
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
                self.apps.set_routing(declared.clone());
                Ok(declared)
            }
            Err(problems) => {
                tracing::warn!("{problems}; the one before still counts");
                Err(problems)
            }
        }
    }

    /// Reloads at every SIGHUP until `shutdown`.
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
            // The result is only logged.
            let _ = self.now().await;
        }
    }
}

/// SIGHUP, which without a handler ends the process.
pub struct Hangups(Signal);

impl Hangups {
    /// Installs the handler.
    ///
    /// # Errors
    /// The process may not install signal handlers.
    pub fn listen() -> anyhow::Result<Self> {
        let hangups = signal(SignalKind::hangup());
        hangups.map(Self).context("SIGHUP cannot be listened to")
    }
}
