//! Time that the real system spends other than waiting, loading and running, as input for
//! simulations. It also shows a busy machine.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use warmq_types::job::{JobRecord, Target};

use super::submission::Submitted;
use crate::simulator::quantile;
use crate::sweep::mean;

/// The overheads of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overheads {
    /// Delay of requests against the plan.
    pub late: Overhead,
    /// Response times of the router.
    pub answered: Overhead,
    /// From the decision for a runner to the start there.
    pub sent: Overhead,
    /// From start to end on the runner, beyond load and run.
    pub at_runner: Overhead,
    /// A job's mean time on its runner beyond load and run, the sum of the two above, ms.
    pub per_job_ms: f64,
    /// From the end of a job on a runner to the decision for the next job that was held for it: the
    /// runner is idle until the dispatcher notices.
    pub notice: Overhead,
    /// Its mean, ms.
    pub notice_ms: f64,
}

/// One overhead over all jobs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overhead {
    /// Its median, ms.
    pub p50_ms: f64,
    /// Its 99th percentile, ms.
    pub p99_ms: f64,
}

impl Overheads {
    /// Computes the overheads from records.
    pub fn of(submitted: &[Submitted], records: &[JobRecord]) -> Self {
        let in_ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let sent = || records.iter().filter_map(sent_ms);
        let at_runner = || records.iter().filter_map(at_runner_ms);
        let notice = || notice_ms(records).into_iter();
        Self {
            late: Overhead::of(submitted.iter().map(|job| in_ms(job.late))),
            answered: Overhead::of(submitted.iter().map(|job| in_ms(job.answered))),
            sent: Overhead::of(sent()),
            at_runner: Overhead::of(at_runner()),
            per_job_ms: mean(sent()) + mean(at_runner()),
            notice: Overhead::of(notice()),
            notice_ms: mean(notice()),
        }
    }
}

impl Overhead {
    fn of(values_ms: impl Iterator<Item = f64>) -> Self {
        let mut values_ms: Vec<f64> = values_ms.collect();
        values_ms.sort_by(f64::total_cmp);
        Self {
            p50_ms: quantile(&values_ms, 0.50),
            p99_ms: quantile(&values_ms, 0.99),
        }
    }
}

/// Returns `None` for jobs in the shared queue, whose wait there is unknown.
fn sent_ms(record: &JobRecord) -> Option<f64> {
    let Target::Runner { .. } = record.decision.as_ref()?.target else {
        return None;
    };
    Some(record.started_ms?.saturating_sub(record.dispatched_ms?) as f64)
}

/// Returns the delay of each job that was held until a runner with its model came free.
fn notice_ms(records: &[JobRecord]) -> Vec<f64> {
    let mut by_start: Vec<&JobRecord> = records.iter().collect();
    by_start.sort_by_key(|record| record.started_ms);
    let mut last_ends_ms = HashMap::new();
    let mut notice_ms = Vec::new();
    for record in by_start {
        let Some(runner) = &record.runner else {
            continue;
        };
        let before_ms = last_ends_ms.insert(runner, record.finished_ms).flatten();
        if let Some((decision, dispatched_ms)) = record.decision.as_ref().zip(record.dispatched_ms)
            && let Some(freed_ms) = before_ms
            && decision.warm
            && dispatched_ms.saturating_sub(decision.held_ms) < freed_ms
        {
            notice_ms.push(dispatched_ms.saturating_sub(freed_ms) as f64);
        }
    }
    notice_ms
}

fn at_runner_ms(record: &JobRecord) -> Option<f64> {
    let timings = record.timings?;
    let took_ms = record.finished_ms?.saturating_sub(record.started_ms?);
    Some(took_ms.saturating_sub(timings.load_ms + timings.run_ms) as f64)
}
