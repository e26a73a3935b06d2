//! The simulation: jobs arrive, runners load, run, fail and are repaired; the scheme chooses the
//! runner of a job.

mod clock;
mod fleet;
mod outcome;
mod world;

pub use fleet::{Fleet, RunnerState};
pub use outcome::{JobRun, Outcome, quantile};
pub use world::{Assignment, CompletedRun, History, Job, Report, SchemeContext, run, simulate};

use crate::args::Options;

/// Runs one simulation and prints its measures.
pub fn print(options: &Options) -> anyhow::Result<()> {
    let outcome = simulate(options)?;
    match options.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => println!("{outcome}"),
    }
    Ok(())
}
