//! One run of the jobs on a router and runners in a namespace of their own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::MissedTickBehavior;
use warmq_cli::client::Client;
use warmq_config::ByteSize;
use warmq_testkit::{Router, Testbed, Worker, WorkerOptions};
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

/// Timeout for stopping a process before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

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
    cluster: Testbed,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The jobs and runners at the end.
    pub end: Snapshot,
    /// The pictures, one per job, in the same order.
    pub pictures: Vec<Picture>,
}

/// The processes. Dropping it kills them.
struct Processes {
    router: Router,
    workers: Vec<Worker>,
}

impl<'a> RunEnvironment<'a> {
    /// Checks that the servers are reachable, and creates a namespace.
    ///
    /// # Errors
    /// A server is unreachable; the message contains the remedy.
    pub async fn start(settings: &'a RunSettings, routing: Routing) -> anyhow::Result<Self> {
        let cluster = Testbed::builder()
            .folder(settings.folder.join(routing.as_str()))
            .config(routing.config())
            .start()
            .await?;
        Ok(Self {
            settings,
            routing,
            cluster,
        })
    }

    /// Starts the processes, runs all jobs, fetches the pictures, stops the processes.
    ///
    /// # Errors
    /// A process does not start, or a job fails.
    pub async fn run(&self) -> anyhow::Result<Run> {
        let mut processes = self.start_processes().await?;
        let client = Client::new(processes.router.url(), None)?;
        let end = tokio::time::timeout(JOBS_TIMEOUT, self.run_jobs(&client, &mut processes))
            .await
            .unwrap_or_else(|_| bail!("not done after {} s", JOBS_TIMEOUT.as_secs()))
            .with_context(|| format!("logs: {}", self.cluster.folder().display()))?;
        let mut pictures = Vec::new();
        for job in &end.jobs {
            pictures.push(Picture::fetch(&client, job).await?);
        }
        processes.stop().await;
        Ok(Run { end, pictures })
    }

    /// Deletes everything of the run from RabbitMQ and Redis.
    ///
    /// # Errors
    /// A server is unreachable.
    pub async fn cleanup(&self) -> anyhow::Result<()> {
        Ok(self.cluster.cleanup().await?)
    }

    async fn start_processes(&self) -> anyhow::Result<Processes> {
        let router = self.cluster.router(&[]).await?;
        let (a, b) = tokio::try_join!(self.worker("runner-a"), self.worker("runner-b"))?;
        Ok(Processes {
            router,
            workers: vec![a, b],
        })
    }

    async fn worker(&self, name: &str) -> anyhow::Result<Worker> {
        let settings = self.settings;
        let options = WorkerOptions::diffusion(name, plan::APP, &settings.models);
        let options = WorkerOptions {
            memory_budget: Some(settings.budget.0.to_string()),
            ..options.args([format!("--device={}", settings.device)])
        };
        Ok(self.cluster.worker(options).await?)
    }

    /// Submits wave after wave, and polls until all jobs ended.
    async fn run_jobs(
        &self,
        client: &Client,
        processes: &mut Processes,
    ) -> anyhow::Result<Snapshot> {
        let app = AppId::parse(plan::APP)?;
        let submitter = Submitter {
            cluster: &self.cluster,
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
                processes.workers.push(self.worker("runner-c").await?);
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

impl Processes {
    /// Stops the workers, then the router; a process that does not stop is killed when dropped.
    async fn stop(mut self) {
        for worker in &self.workers {
            // Fails if the process has already exited.
            let _ = worker.terminate();
        }
        for worker in &mut self.workers {
            if let Err(error) = worker.wait(STOP_TIMEOUT).await {
                eprintln!("{error}: killed");
            }
        }
        let _ = self.router.terminate();
        if let Err(error) = self.router.wait(STOP_TIMEOUT).await {
            eprintln!("{error}: killed");
        }
    }
}
