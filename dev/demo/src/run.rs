//! One run of the jobs on a router and runners in a namespace of their own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::MissedTickBehavior;
use warmq_cli::client::Client;
use warmq_config::ByteSize;
use warmq_testkit::{Deployment, Testbed, WorkerOptions};
use warmq_types::ids::AppId;

use crate::pictures::Picture;
use crate::plan::{self, THIRD_RUNNER_AFTER};
use crate::routing::Routing;
use crate::snapshot::{Snapshot, Submitted};
use crate::submit::Submitter;
use crate::view::View;

/// Interval at which the router is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(60);

/// Timeout for all jobs of a run, which take seconds.
const JOBS_TIMEOUT: Duration = Duration::from_secs(75);

/// Settings of the runners, the same in every run.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Folder with one folder per model.
    pub models: PathBuf,
    /// Memory budget for the models of one runner.
    pub budget: ByteSize,
    /// Device for the models.
    pub device: String,
    /// Folder of the processes: logs, stored pictures.
    pub folder: PathBuf,
}

/// The namespace of a run; [`RunEnvironment::cleanup`] must follow in any case.
pub struct RunEnvironment<'a> {
    settings: &'a RunSettings,
    routing: Routing,
    testbed: Testbed,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The jobs and runners at the end.
    pub end: Snapshot,
    /// The pictures, one per job, in the same order.
    pub pictures: Vec<Picture>,
}

impl<'a> RunEnvironment<'a> {
    /// Checks that the servers are reachable, and creates a namespace.
    ///
    /// # Errors
    /// A server is unreachable; the message contains the remedy.
    pub async fn start(settings: &'a RunSettings, routing: Routing) -> anyhow::Result<Self> {
        let testbed = Testbed::builder()
            .folder(settings.folder.join(routing.as_str()))
            .config(routing.config())
            .start()
            .await?;
        Ok(Self {
            settings,
            routing,
            testbed,
        })
    }

    /// Starts the processes, runs all jobs, fetches the pictures, stops the processes.
    ///
    /// # Errors
    /// A process does not start, or a job fails.
    pub async fn run(&self) -> anyhow::Result<Run> {
        let workers = ["runner-a", "runner-b"].map(|name| self.worker(name));
        let mut deployment = Deployment::start(&self.testbed, workers).await?;
        let client = Client::new(deployment.router.url(), None)?;
        let end = tokio::time::timeout(JOBS_TIMEOUT, self.run_jobs(&client, &mut deployment))
            .await
            .unwrap_or_else(|_| bail!("not done after {} s", JOBS_TIMEOUT.as_secs()))
            .with_context(|| format!("logs: {}", self.testbed.folder().display()))?;
        let mut pictures = Vec::new();
        for job in &end.jobs {
            pictures.push(Picture::fetch(&client, job).await?);
        }
        for error in deployment.stop().await {
            eprintln!("{error}: killed");
        }
        Ok(Run { end, pictures })
    }

    /// Deletes everything of the run from RabbitMQ and Redis.
    pub async fn cleanup(&self) -> anyhow::Result<()> {
        Ok(self.testbed.cleanup().await?)
    }

    fn worker(&self, name: &str) -> WorkerOptions {
        let settings = self.settings;
        let options = WorkerOptions::diffusion(name, plan::APP, &settings.models);
        WorkerOptions {
            memory_budget: Some(settings.budget.0.to_string()),
            ..options.args([format!("--device={}", settings.device)])
        }
    }

    /// Submits wave after wave, and polls until all jobs ended.
    async fn run_jobs(
        &self,
        client: &Client,
        deployment: &mut Deployment,
    ) -> anyhow::Result<Snapshot> {
        let app = AppId::parse(plan::APP)?;
        let submitter = Submitter {
            testbed: &self.testbed,
            client,
            app: &app,
            routing: self.routing,
        };
        let jobs = plan::jobs();
        let mut view = View::new(jobs.len());
        let mut snapshot = Snapshot::default();
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for wave in plan::waves() {
            if wave.start == THIRD_RUNNER_AFTER {
                view.println("Half of the jobs are done: runner-c joins, with nothing loaded.");
                let joined = self.testbed.worker(self.worker("runner-c")).await?;
                deployment.workers.push(joined);
            }
            let end = wave.end;
            for planned in &jobs[wave] {
                let id = submitter.submit(planned).await?;
                snapshot.jobs.push(Submitted {
                    planned: *planned,
                    id,
                    view: None,
                });
            }
            while snapshot.done() < end {
                ticks.tick().await;
                snapshot.refresh(client, &app).await?;
                view.show(&snapshot);
            }
        }
        view.end();
        Ok(snapshot)
    }
}
