//! The usage of a day is the sum of the jobs that ended on it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;
use warmq_types::usage::{UsageReport, UsageTotals};

/// An app for a job that never starts.
const UNSERVED: &str = "bench/unserved";

async fn report(system: &System, query: &str) -> UsageReport {
    let answer = system.get(&format!("/v1/usage?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_value(answer.body).unwrap()
}

/// Returns the usage once `jobs` ends are counted.
async fn once_counted(system: &System, jobs: u64) -> UsageReport {
    let what = format!("{jobs} jobs are counted");
    let counted = system.until(&what, TIMEOUT, async || {
        let report = report(system, "by=app").await;
        let UsageTotals {
            succeeded,
            failed,
            cancelled,
            expired,
            ..
        } = report.total;
        (succeeded + failed + cancelled + expired >= jobs).then_some(report)
    });
    counted.await
}

async fn submit(system: &System, input: Value) -> JobId {
    system.submit_to(TIMED, "m", input).await
}

/// Returns how long a job occupied its runner, ms, by its record.
fn occupied_ms(job: &JobRecord) -> u64 {
    let timings = job.timings.unwrap();
    timings.load_ms + timings.run_ms
}

#[tokio::test]
async fn usage_is_the_sum_of_the_records() {
    let system = System::with_config("[apps.'bench/timed']\n[apps.'bench/unserved']").await;
    let _worker = system.timed_worker("a").await;
    let pictures = json!({"images": [{"url": "a"}, {"url": "b"}]});
    let drawn = submit(
        &system,
        json!({"load_ms": 40, "run_ms": 30, "output": pictures}),
    );
    let drawn = system.succeeded(drawn.await).await;
    let one = submit(
        &system,
        json!({"run_ms": 20, "output": {"image": {"url": "c"}}}),
    );
    let one = system.succeeded(one.await).await;
    let failed = submit(&system, json!({"run_ms": 10, "fail": "bad luck"})).await;
    let failed = system.reached(failed, JobState::Failed).await;
    let running = submit(&system, json!({"run_ms": 60_000})).await;
    system.reached(running, JobState::Running).await;
    let path = format!("/queue/{TIMED}/requests/{running}/cancel");
    system.http(Method::PUT, &path, &[], "").await;
    let stopped = system.reached(running, JobState::Cancelled).await;
    let headers = [("x-fal-request-timeout", "1")];
    let late = system.post(UNSERVED, &headers, r#"{"run_ms": 1}"#).await;
    system.reached(late.job_id(), JobState::Expired).await;

    let report = once_counted(&system, 5).await;
    let stopped_ms = stopped.finished_ms.unwrap() - stopped.started_ms.unwrap();
    let expected = UsageTotals {
        succeeded: 2,
        failed: 1,
        cancelled: 1,
        expired: 1,
        pictures: 3,
        gpu_ms: occupied_ms(&drawn) + occupied_ms(&one) + occupied_ms(&failed) + stopped_ms,
        load_ms: drawn.timings.unwrap().load_ms,
    };
    assert!(expected.load_ms >= 40, "{expected:?}");
    assert_eq!(report.total, expected);
    let earlier = self::report(&system, "from=2000-01-01&to=2000-01-31").await;
    assert_eq!(earlier.usage, []);
    let by_app = report.usage.iter();
    let by_app = by_app.map(|line| (line.app.as_ref().unwrap().as_str(), line.totals.expired));
    assert_eq!(by_app.collect::<Vec<_>>(), [(TIMED, 0), (UNSERVED, 1)]);
    system.cleanup().await;
}

#[tokio::test]
async fn an_end_that_is_announced_twice_counts_once() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let job = system.submit("m", 1).await;
    let cancel = async || {
        let path = format!("/queue/{TIMED}/requests/{job}/cancel");
        system.http(Method::PUT, &path, &[], "").await
    };
    cancel().await;
    once_counted(&system, 1).await;
    // Its first event may be lost, so a repeated cancellation publishes it again.
    cancel().await;
    let other = system.submit("m", 1).await;
    let path = format!("/queue/{TIMED}/requests/{other}/cancel");
    system.http(Method::PUT, &path, &[], "").await;
    let report = once_counted(&system, 2).await;
    let expected = UsageTotals {
        cancelled: 2,
        ..UsageTotals::default()
    };
    assert_eq!(report.total, expected);
    system.cleanup().await;
}

#[tokio::test]
async fn a_step_is_counted_and_its_flow_occupies_no_runner() {
    let toml = r#"
        [apps."bench/timed"]
        [routes."acme/pipeline"]
        kind = "sequence"
        steps = [{ name = "one", app = "bench/timed" }, { name = "two", app = "bench/timed" }]
    "#;
    let system = System::with_config(toml).await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 20, "load_ms": 0});
    let flow = system.submit_to("acme/pipeline", "m", input).await;
    system.ended_within(flow, Duration::from_secs(30)).await;
    let report = once_counted(&system, 3).await;
    let lines = report.usage.iter().map(|line| {
        let app = line.app.as_ref().unwrap().as_str();
        (app, line.totals.succeeded, line.totals.gpu_ms >= 40)
    });
    let expected = [("acme/pipeline", 1, false), (TIMED, 2, true)];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    system.cleanup().await;
}
