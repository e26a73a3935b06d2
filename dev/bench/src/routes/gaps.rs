//! Times between the steps of a flow and from record to start of jobs, by Redis' clock.

use std::ops::Range;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use warmq_store::Store;
use warmq_types::flow::Step;
use warmq_types::job::JobRecord;

use super::times::{Quantiles, Times};

/// Number of records that are fetched concurrently.
const FETCH_CONCURRENCY: usize = 16;

/// The parts of the time from the end of a step's job to the start of the next one's, ms.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    flow_read: Times,
    step_recorded: Times,
    between: Times,
    sent: Times,
    steps: usize,
}

/// The quantiles of [`Gaps`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GapQuantiles {
    /// From a step's end until a router has read the flow.
    pub flow_read: Quantiles,
    /// From there to the record of the next step's job.
    pub step_recorded: Quantiles,
    /// Both together: what a flow adds.
    pub between: Quantiles,
    /// From that record to the start of the job, as for any job.
    pub sent: Quantiles,
}

impl Gaps {
    /// Adds the gaps after the steps of an ended flow that ended `within` that time (Unix ms).
    pub fn add(&mut self, flow: &JobRecord, jobs: &[JobRecord], within: &Range<u64>) {
        let ended_ms = |job: &JobRecord| job.finished_ms.filter(|ms| within.contains(ms));
        self.steps += jobs.iter().filter_map(ended_ms).count();
        let steps = flow.flow.iter().flat_map(|flow| &flow.steps);
        let steps: Vec<(&Step, &JobRecord)> = steps.zip(jobs).collect();
        for pair in steps.windows(2) {
            let [(_, before), (step, job)] = pair else {
                continue;
            };
            let Some((ended_ms, started_ms)) = ended_ms(before).zip(job.started_ms) else {
                continue;
            };
            let created_ms = job.spec.created_ms;
            self.flow_read.push(ms_between(ended_ms, step.begun_ms));
            self.step_recorded
                .push(ms_between(step.begun_ms, created_ms));
            self.between.push(ms_between(ended_ms, created_ms));
            self.sent.push(ms_between(created_ms, started_ms));
        }
    }

    /// Returns the number of ended steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns the quantiles.
    pub fn quantiles(&self) -> GapQuantiles {
        GapQuantiles {
            flow_read: self.flow_read.quantiles(),
            step_recorded: self.step_recorded.quantiles(),
            between: self.between.quantiles(),
            sent: self.sent.quantiles(),
        }
    }
}

/// Returns the time from record to start, ms.
pub fn sent_ms(job: &JobRecord) -> Option<f64> {
    Some(ms_between(job.spec.created_ms, job.started_ms?))
}

/// Fetches the jobs of a flow's steps, in order.
pub async fn jobs_of(store: &Store, flow: &JobRecord) -> anyhow::Result<Vec<JobRecord>> {
    let steps = flow.flow.iter().flat_map(|flow| &flow.steps);
    let jobs = stream::iter(steps).map(|step| store.jobs().job_of(&step.app, step.job));
    let jobs: Vec<Option<JobRecord>> = jobs.buffered(FETCH_CONCURRENCY).try_collect().await?;
    Ok(jobs.into_iter().flatten().collect())
}

/// Returns the difference, zero if it is negative.
pub(super) fn ms_between(from_ms: u64, to_ms: u64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use warmq_types::ids::JobId;

    fn record(value: serde_json::Value) -> JobRecord {
        let mut record = json!({
            "id": JobId::generate(), "app": "bench/a", "input": {}, "created_ms": 0, "state": "succeeded",
            "attempt": 1, "fence": 1
        });
        for (field, value) in value.as_object().unwrap() {
            record[field] = value.clone();
        }
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn between_two_steps_is_from_the_end_of_one_to_the_record_of_the_next() {
        let step = |begun_ms| {
            json!({
                "index": 0, "name": "s", "to": "bench/a", "app": "bench/a", "job": JobId::generate(), "begun_ms": begun_ms
            })
        };
        let flow = record(json!({
            "flow": {"kind": "sequence", "of": 2, "steps": [step(1), step(105)]}
        }));
        let jobs = [
            record(json!({"created_ms": 2, "started_ms": 10, "finished_ms": 100})),
            record(json!({"created_ms": 107, "started_ms": 111, "finished_ms": 200})),
        ];
        let mut gaps = Gaps::default();
        gaps.add(&flow, &jobs, &(0..200));
        assert_eq!(gaps.steps(), 1, "the other one ended too late");
        let gaps = gaps.quantiles();
        let medians =
            [gaps.flow_read, gaps.step_recorded, gaps.between, gaps.sent].map(|part| part.p50_ms);
        assert_eq!(medians, [5.0, 2.0, 7.0, 4.0]);
        assert_eq!(gaps.between.count, 1);
        assert_eq!(sent_ms(&jobs[0]), Some(8.0));
    }
}
