//! The processes: one router, and a worker with many runners for each app.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use tokio::time::timeout;
use warmq_store::Store;
use warmq_testkit::{Router, Testbed, Worker, WorkerOptions};

use super::door::Door;
use super::targets::{APPS, Target, input, toml};
use crate::stopping;

/// Runners beyond the flows: so many more submissions find one idle.
const SPARE_RUNNERS: u32 = 14;

/// How long the first submission may take: dispatchers start with it.
const FIRST: Duration = Duration::from_secs(60);

/// A cluster of its own, under load from this process. Dropping it kills its processes and cleans up.
pub struct Stand {
    // Processes go before the cluster that cleans up behind them.
    router: Router,
    workers: Vec<Worker>,
    cluster: Testbed,
    door: Door,
}

impl Stand {
    /// Starts it, with runners for `flows` flows at once, and sends something to each target, so that every part is up. Logs stay in
    /// the folder `logs`, if given.
    ///
    /// # Errors
    /// A server is away, a program is not built, or does not get ready.
    pub async fn start(flows: u32, logs: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut cluster = Testbed::builder().config(toml());
        if let Some(logs) = logs {
            cluster = cluster.folder(logs);
        }
        let cluster = cluster.start().await?;
        let router = cluster.router(&[]).await?;
        let workers = APPS.map(|app| {
            cluster.worker(WorkerOptions {
                concurrency: flows + SPARE_RUNNERS,
                ..WorkerOptions::timed(&app.replace('/', "-"), app)
            })
        });
        let workers = try_join_all(workers).await?;
        let door = Door::new(router.url());
        for target in Target::ALL {
            let first = timeout(FIRST, door.run(target.name(), &input(0, 0))).await;
            first.with_context(|| format!("nothing came back from {}", target.name()))??;
        }
        Ok(Self {
            router,
            workers,
            cluster,
            door,
        })
    }

    /// Its router's door.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Its Redis.
    pub fn store(&self) -> &Store {
        self.cluster.store()
    }

    /// Asks all processes to stop, and deletes what they left on the servers.
    ///
    /// # Errors
    /// A server is away.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        stopping::stop(&mut self.router, &mut self.workers).await;
        drop((self.router, self.workers));
        Ok(self.cluster.cleanup().await?)
    }
}
