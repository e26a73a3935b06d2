//! The pooled bound: how well any policy could do if loads and placement cost only the unavoidable.
//!
//! All N·K slots of the fleet form one cache that every runner uses, and it holds the most
//! requested models of the workload. Jobs are served in order of arrival by the first free runner.
//! A job pays a load only if its model is not among those N·K, or if it is the first for its model
//! (fleets start cold). Runners do not fail.
//!
//! No policy beats its mean if all models fit. If they do not fit, one can in principle: here each
//! job of a model without a slot pays its own load, while a policy may let several such jobs share
//! one load.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use serde::Serialize;

use crate::args::Options;
use crate::workload::{Error, Planned, Workload};

/// Measures of the pooled fleet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PooledBound {
    /// Model loads per job.
    pub swaps_per_job: f64,
    /// Mean time from arrival to end, s; meaningless under saturation.
    pub mean_s: f64,
    /// Used fraction of the fleet's warm capacity.
    pub throughput: f64,
}

/// A time, s, with a total order.
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

/// Computes the bound for the workload of the options; their policy has no effect.
pub fn pooled(options: &Options) -> Result<PooledBound, Error> {
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
    Ok(PooledBound {
        swaps_per_job: ratio(f64::from(swaps), count),
        mean_s: ratio(time_s, count),
        throughput: ratio(
            count * options.service_s,
            f64::from(options.runners) * (to_s - from_s),
        ),
    })
}

/// Returns the `slots` most requested models.
fn fitting(jobs: &[Planned], models: usize, slots: usize) -> Vec<bool> {
    let mut requests = vec![0_u32; models];
    for job in jobs {
        requests[job.model as usize] += 1;
    }
    let mut by_demand: Vec<usize> = (0..models).collect();
    by_demand.sort_by_key(|model| Reverse(requests[*model]));
    let mut fits = vec![false; models];
    for model in by_demand.into_iter().take(slots) {
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
    fn an_almost_idle_fleet_only_runs_and_one_too_small_loads_what_does_not_fit() {
        let options = Options {
            rho: 0.1,
            ..base(PolicyName::Warm, 1)
        };
        let roomy = pooled(&options).unwrap();
        assert!((roomy.mean_s - 2.0).abs() < 0.03, "{roomy:?}");
        // All models are equal and half of them fit: half of the jobs load, or slightly fewer, as
        // the more popular half stays.
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
