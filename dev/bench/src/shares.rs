//! How two owners share a fleet under policy `warm`: one keeps submitting at a moderate rate, and
//! after a while the other one floods the app with jobs.

use std::fmt;

use serde::Serialize;
use warmq_policy::warm::Constants;

use crate::args::{Options, PolicyName, SharesOptions};
use crate::schemes::WarmScheme;
use crate::simulator::{JobRun, quantile, run};
use crate::sweep::{each, mean, median};
use crate::targets;
use crate::workload::{self, Planned, Workload};

/// Owner of the moderate jobs, and of the flood.
const STEADY: u32 = 0;
const FLOOD: u32 = 1;

/// Time of the flood, s: the fleet has loaded its models by then.
const FLOOD_AT_S: f64 = 300.0;

/// Jobs of the flood, per runner.
const FLOOD_JOBS: u32 = 300;

/// Part of the flood's expected duration in which the steady owner submits: so the flood ends last.
const STEADY_PART: f64 = 0.8;

/// Jobs of an owner that a dispatcher holds at a time: those of its overflow queue.
const WINDOW: usize = 250;

/// Targets.
const MOST_SLOWER: f64 = 1.3;
const LEAST_THROUGHPUT: f64 = 0.95;

/// A fleet, and the two owners' models.
struct Case {
    name: &'static str,
    runners: u32,
    slots: u32,
    /// Models of each owner.
    models: u32,
    /// Whether both use the same models.
    same_models: bool,
    /// Load of the steady owner, in units of its share, which is half of the fleet.
    load: f64,
}

#[rustfmt::skip]
const CASES: [Case; 10] = [
    Case { name: "N=32 K=3, the same 24 models, load .4", runners: 32, slots: 3, models: 24, same_models: true, load: 0.4 },
    Case { name: "N=32 K=3, the same 24 models, load .8", runners: 32, slots: 3, models: 24, same_models: true, load: 0.8 },
    Case { name: "N=32 K=3, 12 models each, load .4", runners: 32, slots: 3, models: 12, same_models: false, load: 0.4 },
    Case { name: "N=32 K=3, 12 models each, load .8", runners: 32, slots: 3, models: 12, same_models: false, load: 0.8 },
    Case { name: "N=32 K=3, 36 models each, load .5", runners: 32, slots: 3, models: 36, same_models: false, load: 0.5 },
    Case { name: "N=32 K=1, 4 models each, load .4", runners: 32, slots: 1, models: 4, same_models: false, load: 0.4 },
    Case { name: "N=32 K=1, 4 models each, load .8", runners: 32, slots: 1, models: 4, same_models: false, load: 0.8 },
    Case { name: "N=8 K=2, 4 models each, load .5", runners: 8, slots: 2, models: 4, same_models: false, load: 0.5 },
    Case { name: "N=4 K=1, 1 model each, load .5", runners: 4, slots: 1, models: 1, same_models: false, load: 0.5 },
    Case { name: "N=128 K=3, 48 models each, load .5", runners: 128, slots: 3, models: 48, same_models: false, load: 0.5 },
];

/// Measures of one case and seed.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measures {
    /// Mean time of the steady owner's jobs during the flood, s.
    mean_s: f64,
    /// Their 99th percentile, s.
    p99_s: f64,
    /// Mean time of the same jobs on half of the fleet, alone, s.
    alone_s: f64,
    /// Mean time of the same jobs if the policy knows no owners, s.
    unshared_s: f64,
    /// Time until all jobs have ended if the policy knows no owners, over the time with shares.
    throughput: f64,
}

impl Case {
    fn options(&self, seed: u64) -> Options {
        Options {
            runners: self.runners,
            slots: self.slots,
            models: self.models,
            rho: self.load / 2.0,
            drop: 0.0,
            ..targets::base(PolicyName::Warm, seed)
        }
    }

    /// Returns all jobs, in order of arrival.
    fn jobs(&self, seed: u64) -> Result<Vec<Planned>, workload::Error> {
        let options = self.options(seed);
        let flood = (FLOOD_JOBS * self.runners) as usize;
        let rate = f64::from(self.runners) / options.service_s;
        let flood_s = flood as f64 / (rate * (1.0 - options.rho));
        let until_s = FLOOD_AT_S + STEADY_PART * flood_s;
        let steady = Options {
            jobs: usize::MAX,
            ..options.clone()
        };
        let steady = Workload::of(&steady)?.take_while(|job| job.at_s < until_s);
        let of_flood = Options {
            seed: seed + 1000,
            jobs: flood,
            ..options
        };
        let first = if self.same_models { 0 } else { self.models };
        let of_flood = Workload::of(&of_flood)?.map(|job| Planned {
            at_s: FLOOD_AT_S,
            model: first + job.model,
            owner: FLOOD,
            ..job
        });
        let mut jobs: Vec<Planned> = steady.chain(of_flood).collect();
        jobs.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Ok(jobs)
    }

    fn run(&self, jobs: Vec<Planned>, runners: u32, seed: u64) -> Vec<JobRun> {
        let options = Options {
            runners,
            ..self.options(seed)
        };
        let mut scheme = WarmScheme::new(&Constants::default(), &options).with_windows(WINDOW);
        let workload = Workload::planned(jobs, 2 * self.models);
        run(&options, workload, &mut scheme, seed).jobs
    }

    fn measure(&self, seed: u64) -> Result<Measures, workload::Error> {
        let jobs = self.jobs(seed)?;
        let steady: Vec<Planned> = jobs
            .iter()
            .filter(|job| job.owner == STEADY)
            .copied()
            .collect();
        let unshared = jobs
            .iter()
            .map(|job| Planned {
                owner: STEADY,
                ..*job
            })
            .collect();
        let shared = self.run(jobs.clone(), self.runners, seed);
        let alone = self.run(steady.clone(), self.runners / 2, seed);
        let unshared = self.run(unshared, self.runners, seed);
        let times = times_s(&jobs, &shared);
        Ok(Measures {
            mean_s: mean(times.iter().copied()),
            p99_s: quantile(&times, 0.99),
            alone_s: mean(times_s(&steady, &alone).into_iter()),
            unshared_s: mean(times_s(&jobs, &unshared).into_iter()),
            throughput: (end_s(&unshared) - FLOOD_AT_S) / (end_s(&shared) - FLOOD_AT_S),
        })
    }
}

/// Returns the sorted times of the steady owner's jobs that arrived after the flood, s.
fn times_s(jobs: &[Planned], runs: &[JobRun]) -> Vec<f64> {
    let steady = jobs
        .iter()
        .zip(runs)
        .filter(|(job, _)| job.owner == STEADY && job.at_s >= FLOOD_AT_S);
    let mut times: Vec<f64> = steady
        .map(|(_, run)| run.ended_s.unwrap_or(f64::INFINITY) - run.arrived_s)
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn end_s(runs: &[JobRun]) -> f64 {
    runs.iter()
        .map(|run| run.ended_s.unwrap_or(f64::INFINITY))
        .fold(0.0, f64::max)
}

/// Prints medians over the seeds; `!` marks a missed target.
pub fn print(options: &SharesOptions) -> anyhow::Result<()> {
    let runs: Vec<(&Case, u64)> = CASES
        .iter()
        .flat_map(|case| (1..=options.seeds).map(move |seed| (case, seed)))
        .collect();
    let measures = each("shares", &runs, |(case, seed)| case.measure(*seed))?;
    println!(
        "{:<40} {:>9} {:>9} {:>9} {:>14} {:>9} {:>12}",
        "one owner floods", "alone s", "mean s", "p99 s", "slower (1.3)", "before s", "throughput"
    );
    for (case, measures) in CASES.iter().zip(measures.chunks(options.seeds as usize)) {
        println!("{:<40} {}", case.name, Summary::of(measures));
    }
    Ok(())
}

struct Summary(Measures, f64);

impl Summary {
    fn of(all: &[Measures]) -> Self {
        let of = |measure: fn(&Measures) -> f64| median(all.iter().map(measure));
        Self(
            Measures {
                mean_s: of(|m| m.mean_s),
                p99_s: of(|m| m.p99_s),
                alone_s: of(|m| m.alone_s),
                unshared_s: of(|m| m.unshared_s),
                throughput: of(|m| m.throughput),
            },
            of(|m| m.mean_s / m.alone_s),
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(m, slower) = self;
        let mark = |missed| if missed { "!" } else { "" };
        let slower = format!("{}{slower:.2}", mark(*slower > MOST_SLOWER));
        let throughput = format!(
            "{}{:.3}",
            mark(m.throughput < LEAST_THROUGHPUT),
            m.throughput
        );
        write!(
            f,
            "{:>9.2} {:>9.2} {:>9.1} {slower:>14} {:>9.1} {throughput:>12}",
            m.alone_s, m.mean_s, m.p99_s, m.unshared_s
        )
    }
}
