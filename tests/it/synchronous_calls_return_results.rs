//! `/run` returns the result itself, and a job whose client disconnected is cancelled.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use warmq_testkit::Proxy;
use warmq_tests::system::TIMED;
use warmq_tests::{HttpResponse, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

async fn run(system: &System, path: &str, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let path = format!("/run/{path}");
    system
        .http(Method::POST, &path, headers, body.to_owned())
        .await
}

/// Waits until the only runner of [`TIMED`] runs a job, and returns it.
async fn running(system: &System) -> JobId {
    let bound = Duration::from_secs(30);
    system
        .until("a job runs", bound, async || {
            system.runners(TIMED).await.first()?.job
        })
        .await
}

#[tokio::test]
async fn the_response_is_the_result_and_names_the_runner() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let headers = [("x-fal-runner-hint", "m")];
    let body = r#"{"run_ms": 1, "load_ms": 1, "output": {"seven": 7}}"#;
    let mut fastest = Duration::MAX;
    for warm in ["0", "1", "1"] {
        let asked = Instant::now();
        let answer = run(&system, &format!("{TIMED}/turbo/"), &headers, body).await;
        fastest = fastest.min(asked.elapsed());
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body, json!({"seven": 7}));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["x-warmq-runner"], "a");
        assert_eq!(answer.headers["x-warmq-warm"], warm);
        let id = answer.headers["x-fal-request-id"].to_str().unwrap();
        let job = system.job(id.parse().unwrap()).await;
        assert_eq!(job.spec.path, "turbo");
    }
    // Woken by the event, not by the poll every 5 s.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_hundred_concurrent_calls_each_return_their_own_result() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let answers = join_all((0..100).map(async |number| {
        let body = json!({"run_ms": 1, "output": number}).to_string();
        (number, run(&system, TIMED, &[], &body).await)
    }));
    for (number, answer) in answers.await {
        assert_eq!(
            (answer.status, answer.body),
            (StatusCode::OK, json!(number))
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_failure_is_returned_with_its_status() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let failed = run(
        &system,
        TIMED,
        &[],
        r#"{"run_ms": 1, "fail": "no such colour"}"#,
    )
    .await;
    assert_eq!(failed.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(failed.body["detail"][0]["msg"], "no such colour");
    let wrong = run(&system, TIMED, &[], r#"{"run_ms": -1}"#).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong.body["detail"][0]["loc"], json!(["body", "run_ms"]));
    let unknown = run(&system, "no/app", &[], "{}").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.headers["x-fal-error-type"], "not_found");
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_that_starts_too_late_returns_a_timeout() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let headers = [("x-fal-request-timeout", "0.5")];
    let answer = run(&system, TIMED, &headers, "{}").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers["x-fal-error-type"], "request_timeout");
    assert_eq!(answer.headers["x-fal-request-timeout-type"], "user");
    system.cleanup().await;
}

#[tokio::test]
async fn a_disconnected_clients_job_is_cancelled() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let abandoned = {
        let wait = run(&system, TIMED, &[], r#"{"run_ms": 60000}"#);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&system) => id,
        }
    };
    system.reached(abandoned, JobState::Cancelled).await;
    let next = run(&system, TIMED, &[], r#"{"run_ms": 1, "output": "next"}"#).await;
    assert_eq!(next.body, "next");
    system.cleanup().await;
}

#[tokio::test]
async fn repeating_a_call_under_its_key_returns_the_first_result() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let headers = [("idempotency-key", "mine")];
    let body = r#"{"run_ms": 2000, "output": "once"}"#;
    let first = {
        let wait = run(&system, TIMED, &headers, body);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&system) => id,
        }
    };
    let again = run(&system, TIMED, &headers, body).await;
    assert_eq!(again.body, "once");
    assert_eq!(again.headers["x-fal-request-id"], first.to_string());
    assert_eq!(system.job(first).await.attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_result_that_arrives_during_an_outage_is_found() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let [amqp, redis] = [system.testbed.amqp_url(), system.testbed.redis_url()].map(Proxy::of);
    let (amqp, redis) = (amqp.await.unwrap(), redis.await.unwrap());
    let (amqp_url, redis_url) = (amqp.url(), redis.url());
    let servers = [
        "--amqp-url",
        amqp_url.expose(),
        "--redis-url",
        redis_url.expose(),
    ];
    system.router = system.testbed.router(&servers).await.unwrap();
    let wait = run(&system, TIMED, &[], r#"{"run_ms": 1000, "output": "late"}"#);
    let (answer, ()) = tokio::join!(wait, async {
        let id = running(&system).await;
        amqp.shut();
        redis.shut();
        system.succeeded(id).await;
        redis.reopen();
    });
    assert_eq!(answer.body, "late");
    amqp.reopen();
    system.cleanup().await;
}

/// Parses the events of an ended stream.
fn events(answer: &HttpResponse) -> Vec<serde_json::Value> {
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).unwrap())
        .collect()
}

#[tokio::test]
async fn a_stream_reports_progress_and_ends_with_the_result() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let body = r#"{"run_ms": 1500, "output": {"seven": 7}}"#;
    let answer = run(&system, &format!("{TIMED}/turbo/stream"), &[], body).await;
    let events = events(&answer);
    let (result, progress) = events.split_last().unwrap();
    assert_eq!(result, &json!({"seven": 7}));
    let steps = progress
        .iter()
        .filter(|event| event["progress"]["step"].is_u64());
    assert!(steps.count() > 2, "{progress:?}");
    let id = answer.headers["x-fal-request-id"].to_str().unwrap();
    assert_eq!(system.job(id.parse().unwrap()).await.spec.path, "turbo");
    system.cleanup().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_error_of_a_failed_job() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let path = format!("{TIMED}/stream");
    let failed = run(
        &system,
        &path,
        &[],
        r#"{"run_ms": 1, "fail": "no such colour"}"#,
    )
    .await;
    let events = events(&failed);
    let last = events.last().unwrap();
    assert_eq!(last["detail"][0]["msg"], "no such colour");
    assert_eq!(
        (&last["status"], &last["error"]),
        (&json!(422), &json!("no such colour"))
    );
    // A refused submission has no stream.
    let wrong = run(&system, &path, &[], r#"{"run_ms": -1}"#).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    system.cleanup().await;
}

#[tokio::test]
async fn closing_a_stream_cancels_its_job() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let path = format!("{TIMED}/stream");
    let abandoned = {
        let wait = run(&system, &path, &[], r#"{"run_ms": 60000}"#);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&system) => id,
        }
    };
    system.reached(abandoned, JobState::Cancelled).await;
    system.cleanup().await;
}
