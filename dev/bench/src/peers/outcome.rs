//! When the jobs of a load ran, and the measures of that.

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use warmq_store::Store;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use super::load::Load;
use crate::routes::times::{Quantiles, Times};

/// Number of records that are fetched concurrently.
const FETCH_CONCURRENCY: usize = 16;

/// What a driver observed.
#[derive(Debug)]
pub struct Observed {
    /// Begin of the load, Unix µs.
    pub begun_us: u64,
    /// Acceptance of the last submission, Unix µs.
    pub submitted_us: u64,
    /// The jobs, in order of submission.
    pub jobs: Vec<ObservedJob>,
}

/// A job whose result the driver has.
#[derive(Debug, Clone, Copy)]
pub struct ObservedJob {
    /// Its execution.
    pub execution: Execution,
    /// When the driver had the result, Unix µs.
    pub result_us: u64,
}

/// Where the time of an execution is found.
#[derive(Debug, Clone, Copy)]
pub enum Execution {
    /// In the result: the start, Unix µs. A no-op job ends then as well.
    At(u64),
    /// In the record of a job of warmq.
    Recorded(JobId),
}

/// When the jobs of a load ran.
#[derive(Debug)]
pub struct Outcome {
    /// Begin of the load, Unix µs.
    pub begun_us: u64,
    /// Acceptance of the last submission, Unix µs.
    pub submitted_us: u64,
    /// The jobs, in order of submission.
    pub jobs: Vec<JobTimes>,
}

/// Times of a job, Unix µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTimes {
    /// Start of its execution.
    pub started_us: u64,
    /// End of its execution.
    pub ended_us: u64,
    /// When the driver had the result.
    pub result_us: u64,
}

impl Observed {
    /// Adds the times of recorded executions.
    ///
    /// # Errors
    /// Redis is unreachable, or a job failed.
    pub async fn complete(self, store: Option<&Store>) -> anyhow::Result<Outcome> {
        let jobs = stream::iter(self.jobs).map(async |job| {
            let (started_us, ended_us) = match job.execution {
                Execution::At(us) => (us, us),
                Execution::Recorded(id) => recorded(store.context("no store")?, id).await?,
            };
            let result_us = job.result_us;
            anyhow::Ok(JobTimes {
                started_us,
                ended_us,
                result_us,
            })
        });
        Ok(Outcome {
            begun_us: self.begun_us,
            submitted_us: self.submitted_us,
            jobs: jobs.buffered(FETCH_CONCURRENCY).try_collect().await?,
        })
    }
}

/// Returns start and end of a job of warmq, Unix µs.
async fn recorded(store: &Store, id: JobId) -> anyhow::Result<(u64, u64)> {
    let record = store.jobs().job(id).await?;
    let record = record.with_context(|| format!("job {id} has no record"))?;
    let succeeded = record.state == JobState::Succeeded;
    ensure!(succeeded, "job {id} {}: {:?}", record.state, record.error);
    // The record has whole milliseconds, rounded down: their middle is right on average.
    let us = |ms: Option<u64>| {
        ms.map(|ms| ms * 1000 + 500)
            .context("the record has no times")
    };
    Ok((us(record.started_ms)?, us(record.finished_ms)?))
}

impl Outcome {
    /// Returns the jobs that ended per second, from the begin of the load to the last end.
    pub fn ended_per_s(&self) -> f64 {
        let last_us = self.jobs.iter().map(|job| job.ended_us).max();
        self.per_s(last_us.unwrap_or(self.begun_us))
    }

    /// Returns the submissions that were accepted per second.
    pub fn submitted_per_s(&self) -> f64 {
        self.per_s(self.submitted_us)
    }

    fn per_s(&self, until_us: u64) -> f64 {
        let lasted_us = until_us.saturating_sub(self.begun_us).max(1);
        self.jobs.len() as f64 * 1e6 / lasted_us as f64
    }

    /// Returns the times from the intended submission to some time of the job.
    pub fn latencies(&self, load: &Load, until_us: impl Fn(&JobTimes) -> u64) -> Quantiles {
        let mut times = Times::default();
        times.extend(self.jobs.iter().enumerate().map(|(number, job)| {
            let intended_us = self.begun_us + load.intended_us(number);
            // Signed, since the record's milliseconds may be rounded to before the submission.
            (until_us(job) as f64 - intended_us as f64) / 1000.0
        }));
        times.quantiles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn job(started_us: u64, result_us: u64) -> JobTimes {
        JobTimes {
            started_us,
            ended_us: started_us,
            result_us,
        }
    }

    #[test]
    fn rates_end_with_the_last_job_in_whatever_order_they_end() {
        let outcome = Outcome {
            begun_us: 1_000_000,
            submitted_us: 1_250_000,
            jobs: vec![job(1_500_000, 1_600_000), job(1_400_000, 1_700_000)],
        };
        assert_eq!(outcome.ended_per_s(), 4.0);
        assert_eq!(outcome.submitted_per_s(), 8.0);
    }

    #[test]
    fn latencies_count_from_the_intended_submission() {
        let load = Load::Arrivals([0, 100].map(Duration::from_millis).into());
        let outcome = Outcome {
            begun_us: 1_000_000,
            submitted_us: 1_100_000,
            jobs: vec![job(1_002_000, 1_003_000), job(1_104_000, 1_109_000)],
        };
        let started = outcome.latencies(&load, |job| job.started_us);
        let result = outcome.latencies(&load, |job| job.result_us);
        assert_eq!((started.p50_ms, started.p99_ms), (2.0, 4.0));
        assert_eq!((result.p50_ms, result.p99_ms), (3.0, 9.0));
    }
}
