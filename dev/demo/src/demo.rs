//! The course of the demo: the jobs under policy `warm`, the same jobs on a shared queue, what both cost.

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
    /// Checks that the models are there, and empties the folder of the processes.
    ///
    /// # Errors
    /// Something is missing; the message says what to do.
    pub fn prepare(args: Args) -> anyhow::Result<Self> {
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
        std::fs::create_dir_all(&args.out)
            .with_context(|| format!("{} can not be made", args.out.display()))?;
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

    /// Runs the demo until its end, or until `stop`, and returns the contact sheet's path.
    ///
    /// # Errors
    /// A server is away, a process does not start, a job fails, or it was stopped.
    pub async fn run(&self, stop: &CancellationToken) -> anyhow::Result<PathBuf> {
        println!(
            "A router and two runners, each with {} of memory for models: room for two of the three. Policy warm.",
            self.settings.budget
        );
        let warm = self.run_with(Routing::Warm, stop).await?;
        self.print_run(&warm);
        let sheet = self.save(&warm)?;

        println!(
            "\nThe same jobs once more, in a namespace of their own, as policy shared: they carry no hint, and wait in one \
             queue\nthat all runners share. Whoever is free first takes the oldest, whatever it has loaded."
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

    /// One run, on a stage that is cleared whatever comes of it.
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
                "DecisionKind each went where it went:",
                report::reasons(jobs),
            ),
            false => (
                "DecisionKind they went where they went, one of each kind (--explain tells of all):",
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
            .with_context(|| format!("{} can not be written", path.display()))?;
        Ok(path)
    }
}
