//! What routes cost, through RabbitMQ, Redis, a router and `timed` workers on this machine: what they add to a submission, what lies
//! between two steps of a flow, and how many submissions a split takes. Each figure has its peer, a submission to the app itself,
//! measured in turn with it, or clients that take the steps themselves.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`targets`] | what is submitted to, and the file that declares it |
//! | [`testbed`] | the processes |
//! | [`client`] | submissions by HTTP |
//! | [`records`] | what the system keeps of each job |
//! | [`background_load`] | many who take steps at once |
//! | [`latency`] | submissions and steps, with some flows under way |
//! | [`baseline`] | the same steps, taken by clients |
//! | [`gaps`] | the time between steps, and from a record to its start |
//! | [`throughput`] | as many submissions as the router takes |
//! | [`times`] | quantiles |
//! | [`summary`] | everything measured, beside its bounds |
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

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::RoutesOptions;
use background_load::BackgroundLoad;
use baseline::BaselineRun;
use latency::LatencyRun;
use summary::Summary;
use testbed::Testbed;
use throughput::Round;

/// Parts of a round.
const PARTS: u64 = 4;

/// Measures what the options say and prints it. Whether a bound is met is in what is printed: it is no error.
///
/// # Errors
/// A server is away, a program is not built, or a job fails.
pub fn print(options: &RoutesOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let summary = runtime.block_on(async {
        tokio::select! {
            done = measure(options) => done,
            // What is running is dropped, which stops the processes and cleans up behind them.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    match options.json {
        true => println!("{}", serde_json::to_string(&summary)?),
        false => report::print(&summary),
    }
    Ok(())
}

async fn measure(options: &RoutesOptions) -> anyhow::Result<Summary> {
    let testbed = Testbed::start(options.flows, options.logs.clone()).await?;
    let measured = rounds(&testbed, options).await;
    testbed.stop().await?;
    measured
}

/// Everything in turn, again and again: what disturbs the machine for a while disturbs all of it.
async fn rounds(testbed: &Testbed, options: &RoutesOptions) -> anyhow::Result<Summary> {
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
        bar.set_message(format!("the same, {} flows under way", options.flows));
        beside.measure(testbed, stretch).await?;
        bar.inc(1);
        bar.set_message(format!(
            "{} clients that take the same steps",
            options.flows
        ));
        baseline.measure(testbed, stretch).await?;
        bar.inc(1);
        bar.set_message("as many submissions as the router takes");
        rounds.push(Round::run(testbed, stretch).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Summary::of(&[alone, beside], &baseline, &rounds))
}

/// A bar on standard error; nothing if that is no terminal.
fn bar(rounds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("routes [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    ProgressBar::new(rounds * PARTS)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
