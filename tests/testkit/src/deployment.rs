//! A router and workers that start and stop together.

use std::time::Duration;

use futures::future::{join_all, try_join_all};

use crate::error::Error;
use crate::process::Process;
use crate::router::Router;
use crate::testbed::Testbed;
use crate::worker::{Worker, WorkerOptions};

/// Timeout for stopping a process before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A router and its workers. Dropping it kills them.
#[derive(Debug)]
pub struct Deployment {
    /// The router.
    pub router: Router,
    /// The workers, in the order of their options.
    pub workers: Vec<Worker>,
}

impl Deployment {
    /// Starts a router, then all workers at once.
    ///
    /// # Errors
    /// As [`Testbed::router`] and [`Testbed::worker`].
    pub async fn start(
        testbed: &Testbed,
        workers: impl IntoIterator<Item = WorkerOptions>,
    ) -> Result<Self, Error> {
        let router = testbed.router(&[]).await?;
        let workers = workers.into_iter().map(|options| testbed.worker(options));
        let workers = try_join_all(workers).await?;
        Ok(Self { router, workers })
    }

    /// Stops the workers, then the router. Returns the errors of those that do not end in time and
    /// are killed.
    pub async fn stop(mut self) -> Vec<Error> {
        let workers = self.workers.iter_mut().map(|worker| &mut **worker);
        let mut errors = stop_all(workers).await;
        errors.extend(stop_all([&mut *self.router]).await);
        errors
    }
}

async fn stop_all<'a>(processes: impl IntoIterator<Item = &'a mut Process>) -> Vec<Error> {
    let stopped = processes.into_iter().map(async |process| {
        // Fails if the process has already exited.
        let _ = process.terminate();
        process.wait(STOP_TIMEOUT).await.err()
    });
    join_all(stopped).await.into_iter().flatten().collect()
}
