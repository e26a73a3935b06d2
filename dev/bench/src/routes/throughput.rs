//! Measures the maximum rate of submissions from many submitters, each of which waits for its
//! response: to two apps in turn, and through a split to the same two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde::Serialize;
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;

use super::records;
use super::targets::{APPS, Target, input};
use super::testbed::RouteTestbed;

/// Number of concurrent submitters.
pub const SUBMITTERS: usize = 64;

/// Interval at which the last jobs are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The rates of one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Round {
    /// Submissions to the apps.
    pub direct: Rates,
    /// Submissions through the split.
    pub split: Rates,
}

/// Per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Submissions that were accepted.
    pub accepted_per_s: f64,
    /// Jobs that ended, from the first record to the last end.
    pub ended_per_s: f64,
}

impl Round {
    /// Submits for a `stretch` of time to either target, and waits for all jobs to end. In the
    /// order direct, split, split, direct, so that a machine that becomes faster or slower favours
    /// neither.
    pub async fn run(testbed: &RouteTestbed, stretch: Duration) -> anyhow::Result<Self> {
        let half = stretch / 2;
        let split_name = [Target::Split.name()];
        let first = rates(testbed, half, &APPS).await?;
        let split = rates(testbed, half, &split_name).await?;
        let split = split.mean(rates(testbed, half, &split_name).await?);
        let direct = first.mean(rates(testbed, half, &APPS).await?);
        Ok(Self { direct, split })
    }
}

impl Rates {
    fn mean(self, other: Self) -> Self {
        let mean = |rate: fn(&Self) -> f64| f64::midpoint(rate(&self), rate(&other));
        Self {
            accepted_per_s: mean(|rates| rates.accepted_per_s),
            ended_per_s: mean(|rates| rates.ended_per_s),
        }
    }
}

/// Submits to `names` in turn.
async fn rates(testbed: &RouteTestbed, stretch: Duration, names: &[&str]) -> anyhow::Result<Rates> {
    let number = AtomicU64::new(0);
    let begun = Instant::now();
    let submitters = (0..SUBMITTERS).map(async |_| -> anyhow::Result<Vec<JobId>> {
        let mut ids = Vec::new();
        while begun.elapsed() < stretch {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let name = names[number as usize % names.len()];
            let (id, _) = testbed.client().submit(name, &input(0, number)).await?;
            ids.push(id);
        }
        Ok(ids)
    });
    let ids = try_join_all(submitters).await?.concat();
    let accepted_per_s = ids.len() as f64 / begun.elapsed().as_secs_f64();
    let jobs = records::wait_for_ends(testbed.store(), &ids, POLL_INTERVAL).await?;
    Ok(Rates {
        accepted_per_s,
        ended_per_s: ended_per_s(&jobs),
    })
}

fn ended_per_s(jobs: &[JobRecord]) -> f64 {
    let from_ms = jobs.iter().map(|job| job.spec.created_ms).min();
    let to_ms = jobs.iter().filter_map(|job| job.finished_ms).max();
    let (from_ms, to_ms) = (from_ms.unwrap_or(0), to_ms.unwrap_or(0));
    jobs.len() as f64 * 1000.0 / to_ms.saturating_sub(from_ms).max(1) as f64
}
