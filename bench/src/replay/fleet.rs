//! The processes of a run.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use warmq_cluster::{Cluster, Router, Worker, WorkerOptions};

use super::case::{RUNNERS, SLOTS};

/// How long a process may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// The processes. Dropping it kills them.
pub struct Fleet {
    /// The router.
    pub router: Router,
    workers: Vec<Worker>,
}

impl Fleet {
    /// Starts a router and the runners, each in a worker of its own.
    ///
    /// # Errors
    /// A program is not built, or does not get ready.
    pub async fn start(cluster: &Cluster, app: &str) -> anyhow::Result<Self> {
        let router = cluster.router(&[]).await?;
        let workers = (0..RUNNERS).map(|number| {
            cluster.worker(WorkerOptions {
                slots: Some(SLOTS),
                ..WorkerOptions::timed(&format!("runner-{number}"), app)
            })
        });
        let workers = try_join_all(workers).await?;
        Ok(Self { router, workers })
    }

    /// Asks all processes to stop. Those that do not are killed as they are dropped.
    pub async fn stop(mut self) {
        let workers = self.workers.iter_mut().map(|worker| &mut **worker);
        let processes = workers.chain([&mut *self.router]);
        join_all(processes.map(async |process| {
            if process.terminate().is_ok() {
                process.wait(STOP).await.ok();
            }
        }))
        .await;
    }
}
