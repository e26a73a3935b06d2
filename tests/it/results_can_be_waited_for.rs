//! `/run` answers with the result itself, and what nobody waits for any more does not go on.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use warmq_testkit::Proxy;
use warmq_tests::stage::TIMED;
use warmq_tests::{Answer, Stage};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

async fn run(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/run/{path}");
    stage
        .http(Method::POST, &path, headers, body.to_owned())
        .await
}

/// The job that the only runner of [`TIMED`] runs, once it runs one.
async fn running(stage: &Stage) -> JobId {
    let bound = Duration::from_secs(30);
    stage
        .until("a job runs", bound, async || {
            stage.runners(TIMED).await.first()?.job
        })
        .await
}

#[tokio::test]
async fn the_answer_is_the_result_and_says_where_it_ran() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let headers = [("x-fal-runner-hint", "m")];
    let body = r#"{"run_ms": 1, "load_ms": 1, "output": {"seven": 7}}"#;
    let mut fastest = Duration::MAX;
    for warm in ["0", "1", "1"] {
        let asked = Instant::now();
        let answer = run(&stage, &format!("{TIMED}/turbo/"), &headers, body).await;
        fastest = fastest.min(asked.elapsed());
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body, json!({"seven": 7}));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["x-warmq-runner"], "a");
        assert_eq!(answer.headers["x-warmq-warm"], warm);
        let id = answer.headers["x-fal-request-id"].to_str().unwrap();
        let job = stage.job(id.parse().unwrap()).await;
        assert_eq!(job.spec.path, "turbo");
    }
    // Woken by the end, not by a look that comes every 5 s.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_hundred_who_wait_at_once_get_each_their_own() {
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let answers = join_all((0..100).map(async |number| {
        let body = json!({"run_ms": 1, "output": number}).to_string();
        (number, run(&stage, TIMED, &[], &body).await)
    }));
    for (number, answer) in answers.await {
        assert_eq!(
            (answer.status, answer.body),
            (StatusCode::OK, json!(number))
        );
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn a_failure_is_the_answer_with_its_status() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let failed = run(
        &stage,
        TIMED,
        &[],
        r#"{"run_ms": 1, "fail": "no such colour"}"#,
    )
    .await;
    assert_eq!(failed.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(failed.body["detail"][0]["msg"], "no such colour");
    let wrong = run(&stage, TIMED, &[], r#"{"run_ms": -1}"#).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong.body["detail"][0]["loc"], json!(["body", "run_ms"]));
    let unknown = run(&stage, "no/app", &[], "{}").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.headers["x-fal-error-type"], "not_found");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_job_that_starts_too_late_is_answered_with_a_timeout() {
    let stage = Stage::with_config("[apps.'bench/timed']").await;
    let headers = [("x-fal-request-timeout", "0.5")];
    let answer = run(&stage, TIMED, &headers, "{}").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers["x-fal-error-type"], "request_timeout");
    assert_eq!(answer.headers["x-fal-request-timeout-type"], "user");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_job_with_it() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let abandoned = {
        let wait = run(&stage, TIMED, &[], r#"{"run_ms": 60000}"#);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&stage) => id,
        }
    };
    stage.reached(abandoned, JobState::Cancelled).await;
    let next = run(&stage, TIMED, &[], r#"{"run_ms": 1, "output": "next"}"#).await;
    assert_eq!(next.body, "next");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_client_that_comes_again_under_its_key_gets_the_first_result() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let headers = [("idempotency-key", "mine")];
    let body = r#"{"run_ms": 2000, "output": "once"}"#;
    let first = {
        let wait = run(&stage, TIMED, &headers, body);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&stage) => id,
        }
    };
    let again = run(&stage, TIMED, &headers, body).await;
    assert_eq!(again.body, "once");
    assert_eq!(again.headers["x-fal-request-id"], first.to_string());
    assert_eq!(stage.job(first).await.attempt, 1);
    stage.clean_up().await;
}

#[tokio::test]
async fn an_end_that_comes_while_the_router_is_cut_off_is_found() {
    let mut stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let [amqp, redis] = [stage.cluster.amqp_url(), stage.cluster.redis_url()].map(Proxy::of);
    let (amqp, redis) = (amqp.await.unwrap(), redis.await.unwrap());
    let (amqp_url, redis_url) = (amqp.url(), redis.url());
    let servers = [
        "--amqp-url",
        amqp_url.expose(),
        "--redis-url",
        redis_url.expose(),
    ];
    stage.router = stage.cluster.router(&servers).await.unwrap();
    let wait = run(&stage, TIMED, &[], r#"{"run_ms": 1000, "output": "late"}"#);
    let (answer, ()) = tokio::join!(wait, async {
        let id = running(&stage).await;
        amqp.shut();
        redis.shut();
        stage.succeeded(id).await;
        redis.reopen();
    });
    assert_eq!(answer.body, "late");
    amqp.reopen();
    stage.clean_up().await;
}

/// The events of a stream that has ended.
fn events(answer: &Answer) -> Vec<serde_json::Value> {
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).unwrap())
        .collect()
}

#[tokio::test]
async fn a_stream_tells_progress_and_ends_with_the_result() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let body = r#"{"run_ms": 1500, "output": {"seven": 7}}"#;
    let answer = run(&stage, &format!("{TIMED}/turbo/stream"), &[], body).await;
    let events = events(&answer);
    let (result, progress) = events.split_last().unwrap();
    assert_eq!(result, &json!({"seven": 7}));
    let steps = progress
        .iter()
        .filter(|event| event["progress"]["step"].is_u64());
    assert!(steps.count() > 2, "{progress:?}");
    let id = answer.headers["x-fal-request-id"].to_str().unwrap();
    assert_eq!(stage.job(id.parse().unwrap()).await.spec.path, "turbo");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_stream_says_at_last_why_the_job_failed() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let path = format!("{TIMED}/stream");
    let failed = run(
        &stage,
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
    // What is never accepted has no stream.
    let wrong = run(&stage, &path, &[], r#"{"run_ms": -1}"#).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    stage.clean_up().await;
}

#[tokio::test]
async fn a_reader_that_goes_away_takes_its_job_with_it() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let path = format!("{TIMED}/stream");
    let abandoned = {
        let wait = run(&stage, &path, &[], r#"{"run_ms": 60000}"#);
        tokio::select! {
            answer = wait => panic!("{answer:?}"),
            id = running(&stage) => id,
        }
    };
    stage.reached(abandoned, JobState::Cancelled).await;
    stage.clean_up().await;
}
