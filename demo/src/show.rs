//! The course of the demo: start, submit and watch, report, stop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use warmq_cli::client::Client;
use warmq_cluster::{Cluster, Router, Worker, WorkerOptions};
use warmq_common::config::ByteSize;
use warmq_common::ids::AppId;

use crate::args::Args;
use crate::plan::{self, MODELS, THIRD_RUNNER_AFTER};
use crate::sheet::{self, Heading, Tile};
use crate::view::View;
use crate::watch::{Snapshot, Submitted};
use crate::{models, pictures, report, submit};

/// How often the router is asked.
const POLL: Duration = Duration::from_millis(60);

/// All jobs together take seconds; something hangs if they take this long.
const JOBS_TIMEOUT: Duration = Duration::from_secs(150);

/// How long a process may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the demo runs in; [`Stage::clear`] must follow, whatever came of the demo.
pub struct Stage {
    args: Args,
    budget: ByteSize,
    cluster: Cluster,
}

/// The processes. Dropping it kills them.
struct Cast {
    router: Router,
    workers: Vec<Worker>,
}

impl Stage {
    /// Checks that all is there: the models, the servers, the folder for the pictures.
    ///
    /// # Errors
    /// Something is missing; the message says what to do.
    pub async fn set(args: Args) -> anyhow::Result<Self> {
        let budget = match args.memory_budget {
            Some(budget) => budget,
            None => models::room_for_two(&args.models, &MODELS, &args.device)?,
        };
        // Logs and stored pictures of an earlier demo: nobody else's, by the folder's name.
        let folder = args.out.join("processes");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("{} can not be emptied", folder.display()))?;
        }
        let cluster = Cluster::builder().folder(folder).start().await?;
        Ok(Self {
            args,
            budget,
            cluster,
        })
    }

    /// Runs the demo, and returns the contact sheet's path.
    ///
    /// # Errors
    /// A process does not start, or a job fails.
    pub async fn run(&self) -> anyhow::Result<PathBuf> {
        let app = AppId::parse(plan::APP)?;
        println!(
            "A router and two runners, each with {} of memory for models: room for two of the three.",
            self.budget
        );
        let mut cast = self.start().await?;
        let client = Client::new(cast.router.url(), None)?;
        let begin = Instant::now();
        let end = tokio::time::timeout(JOBS_TIMEOUT, self.perform(&app, &client, &mut cast))
            .await
            .unwrap_or_else(|_| bail!("not done after {} s", JOBS_TIMEOUT.as_secs()))
            .with_context(|| format!("logs: {}", self.cluster.folder().display()))?;
        let wall = begin.elapsed();
        self.tell(&end, wall);
        let sheet = self.save(&client, &end.jobs).await?;
        cast.stop().await;
        Ok(sheet)
    }

    /// Takes everything off RabbitMQ and Redis that the demo left there.
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
        let options = WorkerOptions::diffusion(name, plan::APP, &self.args.models);
        let options = WorkerOptions {
            memory_budget: Some(self.budget.0.to_string()),
            ..options.args([format!("--device={}", self.args.device)])
        };
        Ok(self.cluster.worker(options).await?)
    }

    /// Submits wave after wave, and watches until all jobs are done.
    async fn perform(
        &self,
        app: &AppId,
        client: &Client,
        cast: &mut Cast,
    ) -> anyhow::Result<Snapshot> {
        let orders = plan::orders();
        let mut view = View::new(orders.len());
        let mut snapshot = Snapshot::default();
        let mut ticks = tokio::time::interval(POLL);
        for wave in plan::waves() {
            if wave.start == THIRD_RUNNER_AFTER {
                view.say("Half of the jobs are done: runner-c joins, with nothing loaded.");
                cast.workers.push(self.worker("runner-c").await?);
            }
            let end = wave.end;
            for order in &orders[wave] {
                let id = submit::submit(&self.cluster, client, app, order).await?;
                snapshot.jobs.push(Submitted {
                    order: *order,
                    id,
                    view: None,
                });
            }
            while snapshot.done() < end {
                ticks.tick().await;
                snapshot.refresh(client, app).await?;
                view.show(&snapshot);
            }
        }
        view.end();
        Ok(snapshot)
    }

    fn tell(&self, end: &Snapshot, wall: Duration) {
        let jobs = &end.jobs;
        println!("\n{}\n", report::table(jobs));
        for line in report::totals(end, wall) {
            println!("{line}");
        }
        let (title, reasons) = match self.args.explain {
            true => ("Why each went where it went:", report::reasons(jobs)),
            false => (
                "Why three of them went where they went (--explain tells of all):",
                report::samples(jobs),
            ),
        };
        println!("\n{title}");
        for reason in reasons {
            println!("  {reason}");
        }
    }

    /// Saves the pictures and the contact sheet.
    async fn save(&self, client: &Client, jobs: &[Submitted]) -> anyhow::Result<PathBuf> {
        let folder: &Path = &self.args.out;
        let mut tiles = Vec::new();
        for job in jobs {
            tiles.push(Tile {
                picture: pictures::save(client, job, folder).await?,
                number: job.order.number,
                prompt: job.order.prompt.to_owned(),
                runner: job.runner().map_or_else(String::new, ToString::to_string),
                warm: job.warm().unwrap_or(false),
            });
        }
        let warm = tiles.iter().filter(|tile| tile.warm).count();
        let heading = Heading {
            title: "warmq demo".to_owned(),
            subtitle: format!(
                "{} jobs over {} models, each runner with room for two: {warm} found their model loaded (warm), \
                 {} had to load it (cold)",
                tiles.len(),
                MODELS.len(),
                tiles.len() - warm
            ),
        };
        let path = folder.join("contact-sheet.png");
        sheet::draw(&heading, &tiles)
            .save(&path)
            .with_context(|| format!("{} can not be written", path.display()))?;
        Ok(path)
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
