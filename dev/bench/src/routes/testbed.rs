//! The processes: one router, and per app a worker with many runners.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use warmq_store::Store;
use warmq_testkit::{Deployment, Testbed, WorkerOptions};

use super::client::SubmitClient;
use super::targets::{APPS, Target, input, toml};

/// Runners beyond the number of flows, which are idle for further submissions.
const SPARE_RUNNERS: u32 = 14;

/// Timeout for the first submission, with which dispatchers start.
const FIRST_RESULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A testbed under load from this process. Dropping it kills its processes and cleans up.
pub struct RouteTestbed {
    // Fields drop in order: processes before the testbed, which cleans up.
    deployment: Deployment,
    testbed: Testbed,
    client: SubmitClient,
}

impl RouteTestbed {
    /// Starts the processes, with runners for `flows` concurrent flows, and submits a job to each
    /// target, so that every part is up. Logs stay in the folder `logs`, if given.
    ///
    /// # Errors
    /// A server is unreachable, a program is not built, or does not become ready.
    pub async fn start(flows: u32, logs: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut testbed = Testbed::builder().config(toml());
        if let Some(logs) = logs {
            testbed = testbed.folder(logs);
        }
        let testbed = testbed.start().await?;
        let workers = APPS.map(|app| WorkerOptions {
            concurrency: flows + SPARE_RUNNERS,
            ..WorkerOptions::timed(&app.replace('/', "-"), app)
        });
        let deployment = Deployment::start(&testbed, workers).await?;
        let client = SubmitClient::new(deployment.router.url());
        for target in Target::ALL {
            let first = timeout(
                FIRST_RESULT_TIMEOUT,
                client.run(target.name(), &input(0, 0)),
            )
            .await;
            first.with_context(|| format!("no result from {}", target.name()))??;
        }
        Ok(Self {
            deployment,
            testbed,
            client,
        })
    }

    /// Returns a client of the router.
    pub fn client(&self) -> &SubmitClient {
        &self.client
    }

    /// Returns its Redis.
    pub fn store(&self) -> &Store {
        self.testbed.store()
    }

    /// Stops all processes and deletes their data on the servers.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.deployment.stop().await;
        Ok(self.testbed.cleanup().await?)
    }
}
