//! warmq's processes: one router, and workers with the `timed` engine.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};
use warmq_store::Store;
use warmq_testkit::{Deployment, Testbed, WorkerOptions, eventually};
use warmq_types::ids::AppId;

use super::amqp_driver::{AmqpDriver, Submission};
use super::http_driver::HttpDriver;
use super::outcome::Execution;
use super::processor_time::{Part, Process};
use super::servers::Servers;

/// The app of the jobs.
const APP: &str = "bench/noop";

/// The hint of all jobs.
const HINT: &str = "m";

/// The pseudo-queue of RabbitMQ's direct reply-to.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Timeout for the load of the model on all runners.
const LOADED_WITHIN: Duration = Duration::from_secs(60);

/// The worker processes of a system, and the runners of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSize {
    /// Processes.
    pub workers: u32,
    /// Runners per process.
    pub slots: u32,
}

impl FleetSize {
    /// Returns the number of runners.
    pub fn runners(self) -> u32 {
        self.workers * self.slots
    }
}

/// A router and its workers. Dropping it kills them and cleans up.
pub struct Warmq {
    // Fields drop in order: processes before the testbed, which cleans up.
    deployment: Deployment,
    testbed: Testbed,
}

impl Warmq {
    /// Starts the processes and loads the model on each runner. Logs go to `folder`, as JSON with
    /// the filter `log`, if given.
    ///
    /// # Errors
    /// A program is not built, or does not become ready.
    pub async fn start(
        size: FleetSize,
        servers: &Servers,
        folder: &Path,
        log: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut testbed = Testbed::builder()
            .folder(folder)
            .amqp_url(servers.rabbitmq.url().expose())
            .redis_url(servers.redis.url().expose())
            .config(format!("[apps.\"{APP}\"]\n"));
        if let Some(filter) = log {
            testbed = testbed.json_log(filter);
        }
        let testbed = testbed.start().await?;
        let workers = (1..=size.workers).map(|number| WorkerOptions {
            concurrency: size.slots,
            ..WorkerOptions::timed(&format!("worker-{number}"), APP).args(["--preload", HINT])
        });
        let warmq = Self {
            deployment: Deployment::start(&testbed, workers).await?,
            testbed,
        };
        warmq.until_loaded(size.runners() as usize).await?;
        Ok(warmq)
    }

    /// Waits until all runners have the model.
    async fn until_loaded(&self, runners: usize) -> anyhow::Result<()> {
        let app = AppId::parse(APP)?;
        let what = format!("all {runners} runners have loaded the model");
        let loaded = async || {
            let listed = self.store().runners().list(&app).await.ok()?;
            let loaded = listed.iter().filter(|runner| !runner.hints.is_empty());
            (loaded.count() == runners).then_some(())
        };
        Ok(eventually(&what, LOADED_WITHIN, loaded).await?)
    }

    /// Returns a driver that submits jobs of this run time by HTTP.
    pub fn http_driver(&self, run_ms: u64) -> HttpDriver {
        HttpDriver::new(self.deployment.router.url(), APP, input(run_ms), HINT)
    }

    /// Connects a driver that submits by AMQP.
    ///
    /// # Errors
    /// RabbitMQ is unreachable.
    pub async fn amqp_driver(&self) -> anyhow::Result<AmqpDriver> {
        let mut headers = FieldTable::default();
        let hint = AMQPValue::LongString(HINT.into());
        headers.insert(ShortString::from("x-runner-hint"), hint);
        let submission = Submission {
            exchange: self.testbed.topology().jobs_exchange(),
            routing_key: APP.to_owned(),
            body: input(0).to_string().into_bytes(),
            properties: BasicProperties::default()
                .with_headers(headers)
                .with_reply_to(DIRECT_REPLY_TO.into()),
            replies: DIRECT_REPLY_TO.to_owned(),
            execution: |id, reply: &Value| {
                let status = reply["status"]
                    .as_str()
                    .context("a reply without a status")?;
                anyhow::ensure!(status == "OK", "job {id}: {reply}");
                Ok(Execution::Recorded(id))
            },
        };
        AmqpDriver::connect(self.testbed.amqp_url(), submission).await
    }

    /// Returns its Redis.
    pub fn store(&self) -> &Store {
        self.testbed.store()
    }

    /// Returns its processes.
    pub fn processes(&self) -> Vec<(Part, Process)> {
        let Deployment { router, workers } = &self.deployment;
        let router = (Part::Router, Process::Tree(router.pid()));
        let workers = (workers.iter()).map(|worker| (Part::Workers, Process::Tree(worker.pid())));
        workers.chain([router]).collect()
    }

    /// Returns the logs of its processes.
    pub fn logs(&self) -> Vec<&Path> {
        let Deployment { router, workers } = &self.deployment;
        let workers = workers.iter().map(|worker| worker.log());
        workers.chain([router.log()]).collect()
    }

    /// Stops all processes and deletes their data on the servers.
    ///
    /// # Errors
    /// A server is unreachable.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.deployment.stop().await;
        Ok(self.testbed.cleanup().await?)
    }
}

fn input(run_ms: u64) -> Value {
    json!({"run_ms": run_ms, "load_ms": 0})
}
