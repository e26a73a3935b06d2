//! Simulates a fleet that is split into several apps by model, as by a route of kind `split`: each
//! app has a leader and runners of its own, and what it costs that none of them knows all.

use rand::Rng;
use serde::Serialize;
use warmq_policy::warm::Constants;

use crate::args::{Options, PolicyName, SplitOptions};
use crate::schemes::WarmScheme;
use crate::simulator::{JobRun, quantile, run};
use crate::sweep::{each, mean};
use crate::targets;
use crate::workload::{self, Planned, Workload, stream};

/// Models per runner.
const MODELS: f64 = 1.5;

/// Measures of a fleet.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measures {
    /// N.
    runners: u32,
    /// K.
    apps: u32,
    /// Submissions per second of the app that has most.
    most_per_s: f64,
    /// Model loads per started job.
    swaps_per_job: f64,
    /// Mean time from arrival to end, s.
    mean_s: f64,
    /// Its 99th percentile, s.
    p99_s: f64,
    /// False if jobs piled up in an app.
    stable: bool,
}

/// An app: its jobs and its runners.
struct App {
    jobs: Vec<Planned>,
    runners: u32,
}

/// Simulates every number of apps for every fleet, and prints the measures.
///
/// # Errors
/// A workload cannot be generated.
pub fn print(options: &SplitOptions) -> anyhow::Result<()> {
    let mut all = Vec::new();
    if !options.json {
        println!(
            "{:>7} {:>5} {:>15} {:>10} {:>8} {:>8}",
            "runners", "apps", "jobs/s, busiest", "swaps/job", "mean s", "p99 s"
        );
    }
    for runners in &options.runners {
        for apps in options.apps.iter().filter(|apps| *apps <= runners) {
            let measures = measure(*runners, *apps, options)?;
            all.push(measures);
            if !options.json {
                println!("{}", line(&measures));
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string(&all)?);
    }
    Ok(())
}

fn line(measures: &Measures) -> String {
    let unstable = if measures.stable { "" } else { "  NOT STABLE" };
    format!(
        "{:>7} {:>5} {:>15.0} {:>10.4} {:>8.2} {:>8.2}{unstable}",
        measures.runners,
        measures.apps,
        measures.most_per_s,
        measures.swaps_per_job,
        measures.mean_s,
        measures.p99_s
    )
}

fn measure(runners: u32, apps: u32, options: &SplitOptions) -> Result<Measures, workload::Error> {
    let models = (f64::from(runners) * MODELS) as u32;
    let fleet = Options {
        runners,
        models,
        rho: options.rho,
        drift_s: options.drift_s,
        jobs: (runners * options.jobs) as usize,
        ..targets::base(PolicyName::Warm, options.seed)
    };
    let jobs: Vec<Planned> = Workload::of(&fleet)?.collect();
    let lasted_s = jobs.last().map_or(0.0, |job| job.at_s);
    let parts = parts(jobs, models, runners, apps, options);
    let most = parts.iter().map(|app| app.jobs.len()).max().unwrap_or(0);
    let what = format!("{runners} runners, {apps} apps");
    let runs = each(&what, &parts, |app| {
        let fleet = Options {
            runners: app.runners,
            ..fleet.clone()
        };
        let mut scheme = WarmScheme::new(&Constants::default(), &fleet);
        let workload = Workload::planned(app.jobs.clone(), models);
        let history = run(&fleet, workload, &mut scheme, fleet.seed);
        Ok((history.outcome.stable, history.jobs))
    })?;
    let stable = runs.iter().all(|(stable, _)| *stable);
    let from_s = fleet.drop * lasted_s;
    let measured = runs.iter().flat_map(|(_, jobs)| jobs);
    let measured: Vec<&JobRun> = measured.filter(|job| job.arrived_s >= from_s).collect();
    let started = measured.iter().filter_map(|job| job.warm);
    let swaps_per_job = mean(started.map(|warm| f64::from(u8::from(!warm))));
    let ended = measured
        .iter()
        .filter_map(|job| Some(job.ended_s? - job.arrived_s));
    let mut times_s: Vec<f64> = ended.collect();
    times_s.sort_by(f64::total_cmp);
    Ok(Measures {
        runners,
        apps,
        most_per_s: most as f64 / lasted_s,
        swaps_per_job,
        mean_s: mean(times_s.iter().copied()),
        p99_s: quantile(&times_s, 0.99),
        stable,
    })
}

/// Splits the jobs by model, at random as a hash does, and the runners.
fn parts(
    jobs: Vec<Planned>,
    models: u32,
    runners: u32,
    apps: u32,
    options: &SplitOptions,
) -> Vec<App> {
    let mut rng = stream(options.seed, 4);
    let app_of: Vec<u32> = (0..models).map(|_| rng.random_range(0..apps)).collect();
    let mut by_app: Vec<Vec<Planned>> = vec![Vec::new(); apps as usize];
    for job in jobs {
        by_app[app_of[job.model as usize] as usize].push(job);
    }
    let loads: Vec<f64> = match options.equal {
        true => vec![1.0; apps as usize],
        false => (by_app.iter())
            .map(|jobs| jobs.iter().map(|job| job.run_s).sum())
            .collect(),
    };
    let runners = shares(runners, &loads);
    let parts = by_app.into_iter().zip(runners);
    parts.map(|(jobs, runners)| App { jobs, runners }).collect()
}

/// Divides `count` in proportion to the loads, whole numbers of at least 1 each. `count` is at
/// least as great as the number of loads.
fn shares(count: u32, loads: &[f64]) -> Vec<u32> {
    let sum: f64 = loads.iter().sum();
    let spare = count - loads.len() as u32;
    let mut border = 0.0;
    let mut given = 0;
    let share = |load: &f64| {
        border += load / sum * f64::from(spare);
        let share = border.round() as u32 - given;
        given += share;
        1 + share
    };
    loads.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_are_divided_by_load_and_none_is_left() {
        assert_eq!(shares(12, &[1.0, 1.0]), [6, 6]);
        assert_eq!(shares(12, &[1.0, 4.0]), [3, 9]);
        assert_eq!(shares(3, &[1.0, 0.0, 9.0]), [1, 1, 1]);
        let many = shares(1000, &[0.3, 1.7, 0.01, 5.0, 2.9, 0.0, 1.1]);
        assert_eq!(many.iter().sum::<u32>(), 1000);
        assert!(many.iter().all(|runners| *runners >= 1));
    }

    #[test]
    fn one_app_is_the_fleet_itself() {
        let options = SplitOptions {
            runners: vec![8],
            apps: vec![1],
            jobs: 200,
            rho: 0.5,
            seed: 1,
            drift_s: None,
            equal: false,
            json: false,
        };
        let split = measure(8, 1, &options).unwrap();
        let whole = Options {
            runners: 8,
            models: 12,
            rho: 0.5,
            jobs: 1600,
            ..targets::base(PolicyName::Warm, 1)
        };
        let whole = crate::simulator::simulate(&whole).unwrap();
        // The measured jobs differ by those about the first quarter's end.
        assert!((split.mean_s - whole.mean_s).abs() < 0.02 * whole.mean_s);
        let halves = measure(8, 2, &options).unwrap();
        assert!(halves.most_per_s < split.most_per_s);
    }
}
