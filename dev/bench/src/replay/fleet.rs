//! The processes of a run.

use futures::future::try_join_all;
use warmq_testkit::{Router, Testbed, Worker, WorkerOptions};

use super::case::{RUNNERS, SLOTS};
use crate::stopping;

/// The processes. Dropping it kills them.
pub struct Fleet {
    /// The router.
    pub router: Router,
    workers: Vec<Worker>,
}

impl Fleet {
    /// Starts a router and the runners, each in its own worker.
    ///
    /// # Errors
    /// A program is not built, or does not become ready.
    pub async fn start(cluster: &Testbed, app: &str) -> anyhow::Result<Self> {
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

    /// Stops all processes. Those that do not stop are killed when dropped.
    pub async fn stop(mut self) {
        stopping::stop(&mut self.router, &mut self.workers).await;
    }
}
