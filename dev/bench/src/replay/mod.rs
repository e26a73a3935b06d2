//! Compares the simulator with the real system: one trace runs on the virtual clock, and through
//! RabbitMQ, Redis, a router and `timed` workers on this machine.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`case`] | the fleet, the workloads, and the expected outcomes |
//! | [`measures`] | times, swaps and backlog of a run; the same for both sides |
//! | [`prediction`] | the simulator's side |
//! | [`reality`] | the real side |
//! | [`records`] | its records of jobs |
//! | [`submission`] | open-loop submission at planned times |
//! | [`overheads`] | overheads of the real system |
//! | [`comparison`] | differences, and whether they are within bounds |
//! | [`progress`] | progress of a replay |
//! | [`report`] | the table |

pub mod case;
pub mod comparison;
pub mod measures;
pub mod overheads;
pub mod prediction;
pub mod progress;
pub mod reality;
pub mod records;
pub mod report;
pub mod submission;

use anyhow::{Context, bail};

use crate::args::ReplayOptions;
use crate::interruptible;
use case::Case;
use comparison::Comparison;
use prediction::Delays;

/// Runs the cases that the options select, and prints real and predicted measures.
///
/// # Errors
/// A bound is missed, a case cannot be run, or no case is selected.
pub fn print(options: &ReplayOptions) -> anyhow::Result<()> {
    interruptible::run(all(options))
}

async fn all(options: &ReplayOptions) -> anyhow::Result<()> {
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| case.name().contains(&options.only))
        .collect();
    if cases.is_empty() {
        bail!("no case's name contains '{}'", options.only);
    }
    let mut comparisons = Vec::new();
    for case in &cases {
        let comparison = compare(case, options).await.with_context(|| case.name())?;
        if !options.json {
            report::print(&comparison);
        }
        comparisons.push(comparison);
    }
    if options.json {
        println!("{}", serde_json::to_string(&comparisons)?);
    }
    let missed = comparisons.iter().filter(|case| !case.agrees).count();
    if missed > 0 {
        bail!(
            "{missed} of {} cases: real and predicted differ",
            cases.len()
        );
    }
    Ok(())
}

async fn compare(case: &Case, options: &ReplayOptions) -> anyhow::Result<Comparison> {
    let plan = case.plan(options.jobs as usize, options.seed)?;
    let logs = options.logs.as_ref().map(|logs| logs.join(case.slug()));
    let real = reality::run(case, &plan, logs).await?;
    let delays = Delays {
        per_job_s: real.overheads.per_job_ms / 1000.0,
        notice_s: real.overheads.notice_ms / 1000.0,
    };
    let predicted = prediction::predict(case, &plan, delays);
    let ideal = prediction::predict(case, &plan, Delays::default());
    Ok(Comparison::new(case, &real, &predicted, &ideal))
}
