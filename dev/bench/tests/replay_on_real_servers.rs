//! A trace through real RabbitMQ and Redis, a router and workers.
#![allow(clippy::unwrap_used, reason = "a panic fails the test, in helpers too")]

use warmq_bench::replay::case::{self, Case, Expected};
use warmq_bench::replay::reality;

/// Enough for a few seconds.
const JOBS: usize = 100;

async fn replay(expected: Expected, logs: &std::path::Path) -> (reality::Reality, usize) {
    let mut cases = case::all().into_iter();
    let case: Case = cases.rfind(|case| case.expected == expected).unwrap();
    let plan = case.plan(JOBS, 1).unwrap();
    let real = reality::run(&case, &plan, Some(logs.to_owned())).await;
    let records = std::fs::read_to_string(logs.join("records.jsonl")).unwrap();
    (real.unwrap(), records.lines().count())
}

#[tokio::test]
async fn every_job_of_a_trace_ends_in_the_real_system() {
    let logs = tempfile::tempdir().unwrap();
    let (real, records) = replay(Expected::Agreement, logs.path()).await;
    assert_eq!(records, JOBS);
    assert!(real.measures.mean_s > 0.1, "{:?}", real.measures);
    assert!(real.measures.swaps_per_job < 1.0, "{:?}", real.measures);
    assert!(!real.measures.collapsing());
}

#[tokio::test]
async fn a_run_that_collapses_stops_at_its_last_arrival() {
    let logs = tempfile::tempdir().unwrap();
    let (real, records) = replay(Expected::Collapse, logs.path()).await;
    assert_eq!(records, JOBS);
    let backlogs: Vec<usize> = real.measures.quarters.iter().map(|q| q.backlog).collect();
    assert!(backlogs.is_sorted() && backlogs[3] > 8, "{backlogs:?}");
}
