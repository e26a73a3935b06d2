//! The demo: the jobs under policy `warm`, the same jobs on a shared queue, and the comparison.

use std::path::PathBuf;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::costs::{self, Costs};
use crate::pictures;
use crate::plan::MODELS;
use crate::routing::Routing;
use crate::run::{Run, RunEnvironment, RunSettings};
use crate::sheet::{self, Heading, Tile};
use crate::{models, report};

/// The whole demo.
pub struct Demo {
    out: PathBuf,
    explain: bool,
    settings: RunSettings,
}

impl Demo {
    /// Checks that the models exist, and empties the folder of the processes.
    ///
    /// # Errors
    /// Something is missing; the message contains the remedy.
    pub fn prepare(args: Args) -> anyhow::Result<Self> {
        let budget = match args.memory_budget {
            Some(budget) => budget,
            None => models::room_for_two(&args.models, &MODELS, &args.device)?,
        };
        // Logs and stored pictures of an earlier demo only, by the folder's name.
        let folder = args.out.join("processes");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("{} cannot be emptied", folder.display()))?;
        }
        std::fs::create_dir_all(&args.out)
            .with_context(|| format!("{} cannot be created", args.out.display()))?;
        Ok(Self {
            out: args.out,
            explain: args.explain,
            settings: RunSettings {
                models: args.models,
                budget,
                device: args.device,
                folder,
            },
        })
    }

    /// Runs the demo to its end or until `stop`. Returns the contact sheet's path.
    ///
    /// # Errors
    /// A server is unreachable, a process does not start, a job fails, or `stop` was cancelled.
    pub async fn run(&self, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        println!(
            "A router and two runners, each with {} of memory for models: room for two of the three. Policy warm.",
            self.settings.budget
        );
        let warm = self.run_with(Routing::Warm, stop).await?;
        self.print_run(&warm);
        let sheet = self.save(&warm)?;

        println!(
            "\nThe same jobs again, in a namespace of their own, with policy shared: without hints, in one queue that all \
             runners\nshare. The first idle runner takes the oldest job, whatever models it holds."
        );
        let shared = self.run_with(Routing::Shared, stop).await?;
        let (warm_costs, shared_costs) = (Costs::of(&warm.end.jobs), Costs::of(&shared.end.jobs));
        println!("\n{}\n", costs::table(&warm_costs, &shared_costs));
        for line in costs::remarks(&warm_costs, &shared_costs) {
            println!("{line}");
        }
        println!("{}", pictures::same(&warm.pictures, &shared.pictures));
        Ok(sheet)
    }

    /// Runs the jobs once, and cleans up afterwards in any case.
    async fn run_with(&self, routing: Routing, stop: &CancellationToken) -> anyhow::Result<Run> {
        let environment = RunEnvironment::start(&self.settings, routing).await?;
        // Dropping the run kills the processes.
        let outcome = tokio::select! {
            outcome = environment.run() => outcome,
            () = stop.cancelled() => Err(anyhow::anyhow!("interrupted; all processes are stopped")),
        };
        let cleaned = environment.cleanup().await;
        let run = outcome?;
        cleaned?;
        Ok(run)
    }

    fn print_run(&self, run: &Run) {
        let jobs = &run.end.jobs;
        println!("\n{}\n", report::table(jobs));
        for line in report::totals(&run.end) {
            println!("{line}");
        }
        let (title, reasons) = match self.explain {
            true => (
                "Why each job was sent to its runner:",
                report::reasons(jobs),
            ),
            false => (
                "Why jobs were sent to their runners, one of each kind (--explain shows all):",
                report::samples(jobs),
            ),
        };
        println!("\n{title}");
        for reason in reasons {
            println!("  {reason}");
        }
    }

    /// Saves the pictures and the contact sheet.
    fn save(&self, run: &Run) -> anyhow::Result<PathBuf> {
        let mut tiles = Vec::new();
        for (job, picture) in run.end.jobs.iter().zip(&run.pictures) {
            picture.save(&self.out)?;
            tiles.push(Tile {
                picture: picture.pixels.clone(),
                number: job.planned.number,
                prompt: job.planned.prompt.to_owned(),
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
        let path = self.out.join("contact-sheet.png");
        sheet::draw(&heading, &tiles)
            .save(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }
}
