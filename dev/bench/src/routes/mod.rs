//! Measures the cost of routes with RabbitMQ, Redis, a router and `timed` workers on this machine:
//! added latency of a submission, time between two steps of a flow, throughput of a split. Each
//! figure has a baseline, measured in turn with it: a submission to the app itself, or clients that
//! submit the steps themselves.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`targets`] | the targets of submissions, and their configuration |
//! | [`testbed`] | the processes |
//! | [`client`] | submissions by HTTP |
//! | [`records`] | the records of jobs |
//! | [`background_load`] | concurrent flows, or clients that submit steps |
//! | [`latency`] | latency of submissions and steps, with background flows |
//! | [`baseline`] | the same steps, submitted by clients |
//! | [`gaps`] | times between steps, and from record to start |
//! | [`throughput`] | maximum rate of submissions |
//! | [`times`] | quantiles |
//! | [`summary`] | all measures and their bounds |
//! | [`report`] | the table |

pub mod background_load;
pub mod baseline;
pub mod client;
pub mod gaps;
pub mod latency;
pub mod records;
pub mod report;
pub mod summary;
pub mod targets;
pub mod testbed;
pub mod throughput;
pub mod times;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::RoutesOptions;
use crate::interruptible;
use background_load::BackgroundLoad;
use baseline::BaselineRun;
use latency::LatencyRun;
use summary::Summary;
use testbed::RouteTestbed;
use throughput::Round;

/// Parts of a round.
const PARTS: u64 = 4;

/// Measures and prints. A missed bound is printed, and is not an error.
pub fn print(options: &RoutesOptions) -> anyhow::Result<()> {
    let summary = interruptible::run(measure(options))?;
    match options.json {
        true => println!("{}", serde_json::to_string(&summary)?),
        false => report::print(&summary),
    }
    Ok(())
}

async fn measure(options: &RoutesOptions) -> anyhow::Result<Summary> {
    let testbed = RouteTestbed::start(options.flows, options.logs.clone()).await?;
    let measured = rounds(&testbed, options).await;
    testbed.stop().await?;
    measured
}

/// Measures everything in turn, repeatedly, so that disturbances of the machine affect all
/// measures.
async fn rounds(testbed: &RouteTestbed, options: &RoutesOptions) -> anyhow::Result<Summary> {
    let stretch = Duration::from_secs(options.seconds);
    let flows = BackgroundLoad {
        count: options.flows,
        step_ms: options.step_ms,
    };
    let mut alone = LatencyRun::new(BackgroundLoad { count: 0, ..flows });
    let mut beside = LatencyRun::new(flows);
    let mut baseline = BaselineRun::new(flows);
    let mut rounds = Vec::new();
    let bar = bar(options.rounds);
    for _ in 0..options.rounds {
        bar.set_message("submissions, one at a time");
        alone.measure(testbed, stretch).await?;
        bar.inc(1);
        bar.set_message(format!("the same, {} background flows", options.flows));
        beside.measure(testbed, stretch).await?;
        bar.inc(1);
        bar.set_message(format!(
            "{} clients that submit the same steps",
            options.flows
        ));
        baseline.measure(testbed, stretch).await?;
        bar.inc(1);
        bar.set_message("maximum rate of submissions");
        rounds.push(Round::run(testbed, stretch).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Summary::of(&[alone, beside], &baseline, &rounds))
}

/// Creates a bar on standard error; hidden unless that is a terminal.
fn bar(rounds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("routes [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    ProgressBar::new(rounds * PARTS)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
