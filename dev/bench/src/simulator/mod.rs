//! The virtual clock: jobs arrive, runners load and run, fail and are repaired; the scheme says which runner gets a job.

mod clock;
mod fleet;
mod outcome;
mod world;

pub use fleet::{Fleet, RunnerState};
pub use outcome::{JobRun, Outcome, quantile};
pub use world::{Assignment, CompletedRun, History, Job, Report, SchemeContext, run, simulate};

use crate::args::Options;

/// Simulates once and prints what was measured.
///
/// # Errors
/// The workload can not be made, or stdout is closed.
pub fn print(options: &Options) -> anyhow::Result<()> {
    let outcome = simulate(options)?;
    match options.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => println!("{outcome}"),
    }
    Ok(())
}
