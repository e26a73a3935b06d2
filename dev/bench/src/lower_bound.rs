//! How well any policy could do if loads and placement cost nothing but what can not be avoided: the pooled bound.
//!
//! All N·K slots of the fleet are one cache that every runner can use, and it holds the models that the workload asks for most.
//! Jobs are served in order of arrival by whichever of the N runners is free first. A job pays a load only if its model is not
//! among those N·K, or if it is the first for its model (fleets start cold). Runners do not fail.
//!
//! No policy beats its mean where every model fits. Where they do not fit, one can in principle: here each job of a model
//! without a place pays a load of its own, while a policy may let several such jobs wait for one load.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use serde::Serialize;

use crate::args::Options;
use crate::workload::{Error, Planned, Workload};

/// What the pooled fleet does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LowerBound {
    /// Model loads per job.
    pub swaps_per_job: f64,
    /// Mean time from arrival to end, s; of no meaning under saturation.
    pub mean_s: f64,
    /// Part of the fleet's warm capacity that is used.
    pub throughput: f64,
}

/// A time, s, that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The bound for the workload that the options describe; their policy does not matter.
///
/// # Errors
/// The workload can not be made.
pub fn pooled(options: &Options) -> Result<LowerBound, Error> {
    let workload = Workload::of(options)?;
    let models = workload.models() as usize;
    let jobs: Vec<Planned> = workload.collect();
    let fits = fitting(&jobs, models, (options.runners * options.slots) as usize);
    let load_s = options.load_ratio * options.service_s;
    let first_measured = (jobs.len() as f64 * options.drop) as usize;

    let mut free: BinaryHeap<Reverse<Time>> =
        (0..options.runners).map(|_| Reverse(Time(0.0))).collect();
    let mut loaded = vec![false; models];
    let (mut from_s, mut to_s) = (0.0, 0.0);
    let (mut measured, mut swaps, mut time_s) = (0, 0, 0.0);
    for (number, job) in jobs.iter().enumerate() {
        // Saturation: there is always a next job.
        let at_s = if options.closed { 0.0 } else { job.at_s };
        let Some(Reverse(Time(free_s))) = free.pop() else {
            break;
        };
        let start_s = free_s.max(at_s);
        let model = job.model as usize;
        let swap = !fits[model] || !std::mem::replace(&mut loaded[model], true);
        let end_s = start_s + job.run_s + if swap { load_s } else { 0.0 };
        free.push(Reverse(Time(end_s)));
        to_s = if options.closed { start_s } else { at_s };
        if number == first_measured {
            from_s = to_s;
        }
        if number >= first_measured {
            measured += 1;
            swaps += u32::from(swap);
            time_s += end_s - at_s;
        }
    }
    let ratio = |above: f64, below: f64| if below > 0.0 { above / below } else { 0.0 };
    let count = f64::from(measured);
    Ok(LowerBound {
        swaps_per_job: ratio(f64::from(swaps), count),
        mean_s: ratio(time_s, count),
        throughput: ratio(
            count * options.service_s,
            f64::from(options.runners) * (to_s - from_s),
        ),
    })
}

/// The `places` models that most jobs ask for.
fn fitting(jobs: &[Planned], models: usize, places: usize) -> Vec<bool> {
    let mut asked = vec![0_u32; models];
    for job in jobs {
        asked[job.model as usize] += 1;
    }
    let mut by_demand: Vec<usize> = (0..models).collect();
    by_demand.sort_by_key(|model| Reverse(asked[*model]));
    let mut fits = vec![false; models];
    for model in by_demand.into_iter().take(places) {
        fits[model] = true;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::PolicyName;
    use crate::simulator::simulate;
    use crate::targets::{base, rows};

    #[test]
    fn an_almost_idle_fleet_only_runs_and_one_too_small_loads_what_has_no_place() {
        let options = Options {
            rho: 0.1,
            ..base(PolicyName::Warm, 1)
        };
        let roomy = pooled(&options).unwrap();
        assert!((roomy.mean_s - 2.0).abs() < 0.03, "{roomy:?}");
        // All models are equal and half of them have a place: half of the jobs load, or a little less, as the luckier half stays.
        let tight = Options {
            models: 192,
            zipf: 0.0,
            ..options
        };
        let tight = pooled(&tight).unwrap();
        assert!((0.45..0.51).contains(&tight.swaps_per_job), "{tight:?}");
    }

    #[test]
    fn no_policy_is_faster_where_every_model_fits() {
        for row in rows().iter().filter(|row| row.wanted.throughput.is_none()) {
            let mut options = row.options(PolicyName::Warm, 1);
            options.jobs = options.jobs.min(5_000);
            if options.models <= options.runners * options.slots {
                let (bound, outcome) = (pooled(&options).unwrap(), simulate(&options).unwrap());
                assert!(bound.mean_s < outcome.mean_s, "{}: {bound:?}", row.name);
            }
        }
    }
}
