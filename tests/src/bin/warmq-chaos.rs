//! `warmq-chaos`: runs seeds of chaos, and fails if any job was lost, stuck, doubly visible,
//! unannounced, wrong or not accepted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use warmq_tests::chaos::{Outcome, Progress, Scale, report, run};

/// Maximum of bad jobs printed per run; the run's folder has all of them.
const MAX_PRINTED: usize = 5;

/// Kills, freezes, restarts and disconnects RabbitMQ, Redis, routers and workers by a seeded plan
/// while jobs are submitted, and accounts for every job
#[derive(Debug, Parser)]
#[command(name = "warmq-chaos", version, about)]
struct Args {
    /// Only this seed
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Number of seeds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// First seed; odd seeds use classic queues, even ones quorum queues
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Jobs per run
    #[arg(long, default_value_t = Scale::FULL.jobs)]
    jobs: usize,
    /// Folder of the runs' logs; those of clean runs are removed
    #[arg(long, value_name = "FOLDER", default_value = "out/chaos")]
    logs: PathBuf,
    /// Keep the logs of clean runs
    #[arg(long)]
    keep_logs: bool,
}

impl Args {
    fn seeds(&self) -> std::ops::Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => self.first..self.first.saturating_add(self.seeds),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::select! {
        outcome = all(&args) => outcome,
        // Dropping a run kills its processes; otherwise the servers would outlive this process.
        stopped = stopped() => Err(stopped),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("warmq-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGTERM or SIGINT.
async fn stopped() -> anyhow::Error {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => terminated.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => anyhow!("stopped by SIGTERM"),
        _ = tokio::signal::ctrl_c() => anyhow!("stopped by SIGINT"),
    }
}

/// Returns whether all runs were clean.
async fn all(args: &Args) -> anyhow::Result<bool> {
    let scale = Scale {
        jobs: args.jobs,
        ..Scale::FULL
    };
    let mut outcomes = Vec::new();
    let mut broken = 0;
    for seed in args.seeds() {
        let folder = args.logs.join(format!("seed-{seed}"));
        match one(seed, scale, &folder, args.keep_logs).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                broken += 1;
                println!("seed {seed}: not finished: {error:#}");
                println!("seed {seed}: the logs are in {}", folder.display());
            }
        }
    }
    println!("\n{}\n", report::runs(&outcomes));
    println!("{}\n", report::executions(&outcomes));
    println!("{}", report::recoveries(&outcomes));
    Ok(broken == 0 && outcomes.iter().all(|outcome| outcome.verdict.is_clean()))
}

async fn one(seed: u64, scale: Scale, folder: &Path, keep: bool) -> anyhow::Result<Outcome> {
    if folder.exists() {
        let what = || format!("removing {}", folder.display());
        std::fs::remove_dir_all(folder).with_context(what)?;
    }
    let outcome = run(seed, scale, folder, Progress::new(&format!("seed {seed}"))).await?;
    let verdict = &outcome.verdict;
    let took = outcome.took.as_secs();
    if verdict.is_clean() {
        let accepted = verdict.accepted;
        println!("seed {seed}: {accepted} jobs, one end each ({took} s)");
        if !keep {
            let what = || format!("removing {}", folder.display());
            std::fs::remove_dir_all(folder).with_context(what)?;
        }
    } else {
        let stories: Vec<String> = verdict.bad.iter().map(report::details).collect();
        println!("seed {seed}: {} BAD jobs ({took} s):", stories.len());
        for details in stories.iter().take(MAX_PRINTED) {
            println!("{details}");
        }
        let file = folder.join("bad-jobs.txt");
        std::fs::write(&file, stories.join("\n")).context("bad-jobs.txt")?;
        println!(
            "seed {seed}: all of them are in {}; faults.log and the processes' logs are beside it",
            file.display()
        );
    }
    Ok(outcome)
}
