//! Measures the cost of a decision of policy `warm`, and its growth with the fleet.
//!
//! A simulation records the policy's events; then a fresh policy processes them repeatedly, and its
//! processor time is measured. So neither the simulator nor other processes affect the figure.

use std::hint::black_box;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use warmq_policy::warm::{Constants, Warm};

use crate::args::{Options, PolicyName, ScalingOptions};
use crate::schemes::{PolicyEvent, WarmScheme};
use crate::simulator::run;
use crate::sweep::median;
use crate::targets;
use crate::workload::Workload;

/// Sizes of fleets.
const RUNNERS: [u32; 7] = [32, 64, 128, 256, 512, 1000, 2000];
/// Models per runner.
const MODELS: f64 = 1.5;
/// Jobs per runner: the same virtual time for each fleet.
const JOBS: usize = 300;
/// Events per time measurement: few enough that fetching a long record from memory is not measured.
const CHUNK: usize = 256;

/// The cost at one size of fleet.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// N.
    pub runners: u32,
    /// M.
    pub models: u32,
    /// Decisions: arrivals, runners that come free, deadlines.
    pub decisions: usize,
    /// Processor time per decision, ns: the median of the repetitions.
    pub ns_per_decision: f64,
    /// Ratio to the smallest fleet's.
    pub growth: f64,
    /// log N, as a ratio to the smallest fleet's.
    pub log_growth: f64,
}

/// Returns the processor time of this thread, ns.
fn processor_ns() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// Replays the record on a fresh policy; returns the processor time, ns.
fn replay(record: &[PolicyEvent]) -> anyhow::Result<f64> {
    let mut policy = Warm::new(Constants::default());
    let mut spent_ns = 0.0;
    for chunk in record.chunks(CHUNK) {
        // Copied before the clock starts: the policy takes events by value.
        let events = chunk.to_vec();
        let start_ns = processor_ns()?;
        for PolicyEvent { now_s, event, coin } in events {
            black_box(policy.on(now_s, event, coin));
        }
        spent_ns += processor_ns()? - start_ns;
    }
    Ok(spent_ns)
}

fn record(runners: u32, rho: f64) -> anyhow::Result<Vec<PolicyEvent>> {
    let options = Options {
        runners,
        models: (f64::from(runners) * MODELS) as u32,
        rho,
        jobs: runners as usize * JOBS,
        ..targets::base(PolicyName::Warm, 1)
    };
    let workload = Workload::of(&options)?;
    let mut scheme = WarmScheme::new(&Constants::default(), &options).recording();
    run(&options, workload, &mut scheme, options.seed);
    Ok(scheme.into_record())
}

/// Measures every size of fleet.
///
/// # Errors
/// A workload cannot be generated, or there is no clock of processor time.
pub fn measure(options: &ScalingOptions) -> anyhow::Result<Vec<Cost>> {
    let mut costs: Vec<Cost> = Vec::new();
    for runners in RUNNERS {
        let record = record(runners, options.rho)?;
        let decisions = record.len();
        let times_ns = (0..options.runs)
            .map(|_| replay(&record))
            .collect::<Result<Vec<_>, _>>()?;
        let ns_per_decision = median(times_ns.into_iter()) / decisions as f64;
        let (first_ns, first) = costs.first().map_or((ns_per_decision, runners), |cost| {
            (cost.ns_per_decision, cost.runners)
        });
        costs.push(Cost {
            runners,
            models: (f64::from(runners) * MODELS) as u32,
            decisions,
            ns_per_decision,
            growth: ns_per_decision / first_ns,
            log_growth: f64::from(runners).ln() / f64::from(first).ln(),
        });
    }
    Ok(costs)
}

/// Measures and prints.
///
/// # Errors
/// As [`measure`].
pub fn print(options: &ScalingOptions) -> anyhow::Result<()> {
    let costs = measure(options)?;
    if options.json {
        println!("{}", serde_json::to_string(&costs)?);
        return Ok(());
    }
    println!(
        "{:>6} {:>6} {:>12} {:>10} {:>12}",
        "N", "M", "ns/decision", "growth", "log N growth"
    );
    for cost in &costs {
        println!(
            "{:>6} {:>6} {:>12.0} {:>10.2} {:>12.2}",
            cost.runners, cost.models, cost.ns_per_decision, cost.growth, cost.log_growth
        );
    }
    Ok(())
}
