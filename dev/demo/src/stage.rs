//! A router and runners in a namespace of their own, and one run of the jobs on them.

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
use crate::submit::Door;
use crate::view::View;
use crate::watch::{Snapshot, Submitted};

/// How often the router is asked.
const POLL: Duration = Duration::from_millis(60);

/// All jobs of a run together take seconds; something hangs if they take this long.
const JOBS_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a process may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the runners have to work with, the same in every run.
#[derive(Debug, Clone)]
pub struct Props {
    /// Folder of model folders.
    pub models: PathBuf,
    /// What the models of one runner may hold.
    pub budget: ByteSize,
    /// Where the models live.
    pub device: String,
    /// Where the processes of a run have their folder: logs, stored pictures.
    pub folder: PathBuf,
}

/// What a run takes place in; [`Stage::clear`] must follow, whatever came of it.
pub struct Stage<'a> {
    props: &'a Props,
    routing: Routing,
    cluster: Testbed,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The jobs and runners at the end.
    pub end: Snapshot,
    /// A picture per job, in the same order.
    pub pictures: Vec<Picture>,
}

/// The processes. Dropping it kills them.
struct Cast {
    router: Router,
    workers: Vec<Worker>,
}

impl<'a> Stage<'a> {
    /// Checks that the servers are there, and takes a namespace on them.
    ///
    /// # Errors
    /// A server is away; the message says what to do.
    pub async fn set(props: &'a Props, routing: Routing) -> anyhow::Result<Self> {
        let cluster = Testbed::builder()
            .folder(props.folder.join(routing.as_str()))
            .config(routing.config())
            .start()
            .await?;
        Ok(Self {
            props,
            routing,
            cluster,
        })
    }

    /// Starts the processes, runs all jobs, fetches the pictures, stops the processes.
    ///
    /// # Errors
    /// A process does not start, or a job fails.
    pub async fn run(&self) -> anyhow::Result<Run> {
        let mut cast = self.start().await?;
        let client = Client::new(cast.router.url(), None)?;
        let end = tokio::time::timeout(JOBS_TIMEOUT, self.perform(&client, &mut cast))
            .await
            .unwrap_or_else(|_| bail!("not done after {} s", JOBS_TIMEOUT.as_secs()))
            .with_context(|| format!("logs: {}", self.cluster.folder().display()))?;
        let mut pictures = Vec::new();
        for job in &end.jobs {
            pictures.push(Picture::fetch(&client, job).await?);
        }
        cast.stop().await;
        Ok(Run { end, pictures })
    }

    /// Takes everything off RabbitMQ and Redis that the run left there.
    ///
    /// # Errors
    /// A server is away.
    pub async fn clear(&self) -> anyhow::Result<()> {
        Ok(self.cluster.cleanup().await?)
    }

    async fn start(&self) -> anyhow::Result<Cast> {
        let router = self.cluster.router(&[]).await?;
        let (a, b) = tokio::try_join!(self.worker("runner-a"), self.worker("runner-b"))?;
        Ok(Cast {
            router,
            workers: vec![a, b],
        })
    }

    async fn worker(&self, name: &str) -> anyhow::Result<Worker> {
        let props = self.props;
        let options = WorkerOptions::diffusion(name, plan::APP, &props.models);
        let options = WorkerOptions {
            memory_budget: Some(props.budget.0.to_string()),
            ..options.args([format!("--device={}", props.device)])
        };
        Ok(self.cluster.worker(options).await?)
    }

    /// Submits wave after wave, and watches until all jobs are done.
    async fn perform(&self, client: &Client, cast: &mut Cast) -> anyhow::Result<Snapshot> {
        let app = AppId::parse(plan::APP)?;
        let door = Door {
            cluster: &self.cluster,
            client,
            app: &app,
            routing: self.routing,
        };
        let orders = plan::orders();
        let mut view = View::new(orders.len());
        let mut snapshot = Snapshot::default();
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for wave in plan::waves() {
            if wave.start == THIRD_RUNNER_AFTER {
                view.say("Half of the jobs are done: runner-c joins, with nothing loaded.");
                cast.workers.push(self.worker("runner-c").await?);
            }
            let end = wave.end;
            for order in &orders[wave] {
                let id = door.submit(order).await?;
                snapshot.jobs.push(Submitted {
                    order: *order,
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

impl Cast {
    /// Stops the workers, then the router; what does not stop is killed when it is dropped.
    async fn stop(mut self) {
        for worker in &self.workers {
            // It is gone already if this fails.
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
