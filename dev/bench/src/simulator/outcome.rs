//! Measures of a simulation.

use std::fmt;

use serde::Serialize;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Model loads per started job.
    pub swaps_per_job: f64,
    /// Time of loading per started job, s.
    pub load_s_per_job: f64,
    /// Mean time from arrival to end, s.
    pub mean_s: f64,
    /// Its median, s.
    pub p50_s: f64,
    /// Its 95th percentile, s.
    pub p95_s: f64,
    /// Its 99th percentile, s.
    pub p99_s: f64,
    /// Completions · S / (N · time): the used fraction of the fleet's warm capacity.
    pub throughput: f64,
    /// False if more than 300 N + 3000 jobs were in the system at once; the simulation stops there.
    pub stable: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stable = match self.stable {
            true => "stable",
            false => "NOT STABLE",
        };
        write!(
            f,
            "{:.4} swaps/job, {:.3} s of loading/job, mean {:.2} s, p50 {:.2} s, p95 {:.2} s, p99 {:.2} s, throughput {:.3}, {stable}",
            self.swaps_per_job,
            self.load_s_per_job,
            self.mean_s,
            self.p50_s,
            self.p95_s,
            self.p99_s,
            self.throughput
        )
    }
}

/// The run of one job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JobRun {
    /// Arrival, s.
    pub arrived_s: f64,
    /// End, s; `None` if it did not end.
    pub ended_s: Option<f64>,
    /// Whether its last start was warm.
    pub warm: Option<bool>,
}

/// Started jobs, and how many of them were cold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Starts {
    /// All.
    pub jobs: u64,
    /// Cold starts.
    pub swaps: u64,
    /// Time of their loads, s.
    pub load_s: f64,
}

/// Counters of a running simulation. Those of the first jobs, which are not measured, are used only
/// if jobs pile up before any other one ends.
#[derive(Debug, Default)]
pub struct Tally {
    /// Starts of measured jobs.
    pub starts: Starts,
    /// Starts of the first jobs.
    pub early_starts: Starts,
    /// Times of measured jobs from arrival to end, s.
    pub times_s: Vec<f64>,
    /// Those of the first jobs, s.
    pub early_times_s: Vec<f64>,
    /// Completions within the time in which throughput is measured.
    pub completions: u64,
    /// Completions before it.
    pub early_completions: u64,
    /// Start of that time, s.
    pub from_s: Option<f64>,
    /// End of that time, s.
    pub to_s: Option<f64>,
}

impl Tally {
    /// Computes the measures. `now_s` is the end if the measured time is still open.
    pub fn outcome(mut self, runners: usize, service_s: f64, now_s: f64, stable: bool) -> Outcome {
        if self.times_s.is_empty() {
            self.times_s = self.early_times_s;
            self.starts = self.early_starts;
            self.completions += self.early_completions;
            self.from_s = Some(0.0);
        }
        self.times_s.sort_by(f64::total_cmp);
        let measured_s = self.to_s.unwrap_or(now_s) - self.from_s.unwrap_or(0.0);
        let ratio = |above: f64, below: f64| if below > 0.0 { above / below } else { 0.0 };
        Outcome {
            swaps_per_job: ratio(self.starts.swaps as f64, self.starts.jobs as f64),
            load_s_per_job: ratio(self.starts.load_s, self.starts.jobs as f64),
            mean_s: ratio(self.times_s.iter().sum(), self.times_s.len() as f64),
            p50_s: quantile(&self.times_s, 0.50),
            p95_s: quantile(&self.times_s, 0.95),
            p99_s: quantile(&self.times_s, 0.99),
            throughput: ratio(
                self.completions as f64 * service_s,
                runners as f64 * measured_s,
            ),
            stable,
        }
    }
}

/// Returns the nearest-rank quantile of sorted times; 0 if there are none.
pub fn quantile(sorted_s: &[f64], part: f64) -> f64 {
    let rank = (part * sorted_s.len() as f64).ceil() as usize;
    sorted_s.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
