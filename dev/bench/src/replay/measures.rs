//! Measures of a run, simulated or real.

use serde::Serialize;

use super::case::RUNNERS;
use crate::simulator::{JobRun, quantile};
use crate::sweep::mean;

/// Parts of a run, by arrivals. The first is not measured, since the fleet is cold.
const QUARTERS: usize = 4;

/// A larger backlog per runner that grew in every quarter is a collapse.
const COLLAPSE_PER_RUNNER: usize = 10;

/// A run's measures. A job that did not end counts with its time so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// Mean time from arrival to end, s.
    pub mean_s: f64,
    /// Its 95th percentile, s.
    pub p95_s: f64,
    /// Model loads per job that ended.
    pub swaps_per_job: f64,
    /// The quarters of the run.
    pub quarters: Vec<Quarter>,
}

/// The part of a run in which a quarter of its jobs arrived.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quarter {
    /// Mean time from arrival to end of the jobs that ended in it, s.
    pub mean_s: f64,
    /// Jobs in the system at its end.
    pub backlog: usize,
}

impl Measures {
    /// Measures jobs in order of arrival. Ends after `until_s` (s, on the jobs' clock) are ignored.
    pub fn of(jobs: &[JobRun], until_s: f64) -> Self {
        let measured = &jobs[jobs.len() / QUARTERS..];
        let mut times_s = times_s(measured, until_s);
        times_s.sort_by(f64::total_cmp);
        let ended = || measured.iter().filter(|job| ended_by(job, until_s));
        let swaps = ended().filter(|job| job.warm == Some(false)).count();
        let mut from_s = 0.0;
        let quarters = (1..=QUARTERS).filter_map(|quarter| {
            let arrived = &jobs[..jobs.len() * quarter / QUARTERS];
            let to_s = arrived.last()?.arrived_s;
            let in_it = |job: &&JobRun| ended_by(job, to_s) && !ended_by(job, from_s);
            let ended: Vec<JobRun> = arrived.iter().filter(in_it).copied().collect();
            from_s = to_s;
            Some(Quarter {
                mean_s: mean(self::times_s(&ended, to_s).into_iter()),
                backlog: arrived.iter().filter(|job| !ended_by(job, to_s)).count(),
            })
        });
        let quarters = quarters.collect();
        Self {
            mean_s: mean(times_s.iter().copied()),
            p95_s: quantile(&times_s, 0.95),
            swaps_per_job: swaps as f64 / ended().count().max(1) as f64,
            quarters,
        }
    }

    /// Returns whether jobs pile up.
    pub fn collapsing(&self) -> bool {
        let most = self.quarters.last().map_or(0, |quarter| quarter.backlog);
        most > COLLAPSE_PER_RUNNER * RUNNERS as usize
            && self.quarters.is_sorted_by(|a, b| a.backlog < b.backlog)
    }
}

fn ended_by(job: &JobRun, until_s: f64) -> bool {
    job.ended_s.is_some_and(|ended_s| ended_s <= until_s)
}

fn times_s(jobs: &[JobRun], until_s: f64) -> Vec<f64> {
    jobs.iter()
        .map(|job| job.ended_s.unwrap_or(f64::INFINITY).min(until_s) - job.arrived_s)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(arrived_s: f64, ended_s: f64, warm: bool) -> JobRun {
        JobRun {
            arrived_s,
            ended_s: Some(ended_s),
            warm: Some(warm),
        }
    }

    #[test]
    fn the_first_quarter_is_not_measured() {
        let jobs = [
            job(0.0, 9.0, false),
            job(1.0, 2.0, true),
            job(2.0, 4.0, false),
            job(3.0, 6.0, true),
        ];
        let measures = Measures::of(&jobs, f64::INFINITY);
        assert_eq!((measures.mean_s, measures.p95_s), (2.0, 3.0));
        assert!((measures.swaps_per_job - 1.0 / 3.0).abs() < 1e-9);
        let backlogs: Vec<usize> = measures.quarters.iter().map(|part| part.backlog).collect();
        assert_eq!(backlogs, [1, 2, 2, 3]);
        assert!(!measures.collapsing());
    }

    #[test]
    fn jobs_that_pile_up_are_a_collapse_and_count_with_their_time_so_far() {
        let jobs: Vec<JobRun> = (0..400)
            .map(|number| job(f64::from(number), f64::from(number) * 3.0, true))
            .collect();
        let measures = Measures::of(&jobs, 399.0);
        assert!(measures.collapsing(), "{measures:?}");
        assert!(measures.p95_s <= 399.0);
        assert!(measures.quarters.is_sorted_by(|a, b| a.mean_s < b.mean_s));
    }
}
