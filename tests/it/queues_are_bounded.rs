//! An app's queue grows to its limit, and further submissions are refused at once.

use futures::future::join_all;
use lapin::BasicProperties;
use reqwest::StatusCode;
use serde_json::json;
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json as body_of, next, with_hint};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::state::JobState;

const BOUNDED: &str = "[apps.'bench/timed']\nmax_queue_length = 7";

/// fal's header for the longest acceptable queue.
async fn submit_if_shorter(system: &System, most: &str) -> HttpResponse {
    let app = format!("{TIMED}?fal_max_queue_length={most}");
    system.post(&app, &[], r#"{"run_ms": 1}"#).await
}

fn assert_full(answer: &HttpResponse) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.body["error_type"], "queue_full");
    assert!(answer.body["detail"].is_string(), "{:?}", answer.body);
    assert_eq!(answer.headers["x-fal-error-type"], "queue_full");
    assert!(answer.headers.contains_key("retry-after"));
}

async fn queued(system: &System) -> u64 {
    let apps = system.get("/v1/apps").await;
    apps.body["apps"][0]["queued"].as_u64().unwrap()
}

#[tokio::test]
async fn a_hundred_concurrent_submissions_do_not_exceed_the_bound() {
    let system = System::with_config(BOUNDED).await;
    // The app is in the file and has no runners: accepted jobs wait.
    let answers = join_all((0..100).map(|_| system.post(TIMED, &[], r#"{"run_ms": 1}"#))).await;
    let (accepted, refused): (Vec<&HttpResponse>, Vec<&HttpResponse>) =
        (answers.iter()).partition(|answer| answer.status == StatusCode::OK);
    assert_eq!(accepted.len(), 7);
    refused.into_iter().for_each(assert_full);
    assert_eq!(queued(&system).await, 7);
    // Slots are free again after they ran.
    let _worker = system.timed_worker("a").await;
    for answer in accepted {
        let id = answer.job_id();
        system.succeeded(id).await;
    }
    system.succeeded(system.submit("m", 1).await).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_submission_can_lower_the_queue_limit_but_not_raise_it() {
    let system = System::with_config(BOUNDED).await;
    // Refused only while more wait.
    assert_eq!(submit_if_shorter(&system, "0").await.status, StatusCode::OK);
    assert_full(&submit_if_shorter(&system, "0").await);
    for _ in 1..3 {
        assert_eq!(submit_if_shorter(&system, "2").await.status, StatusCode::OK);
    }
    assert_full(&submit_if_shorter(&system, "2").await);
    for _ in 3..7 {
        assert_eq!(
            submit_if_shorter(&system, "99").await.status,
            StatusCode::OK
        );
    }
    assert_full(&submit_if_shorter(&system, "99").await);
    system.cleanup().await;
}

#[tokio::test]
async fn running_jobs_do_not_count_towards_the_queue_limit() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let running = system.submit("m", 1500).await;
    system.reached(running, JobState::Running).await;
    assert_eq!(submit_if_shorter(&system, "0").await.status, StatusCode::OK);
    assert_full(&submit_if_shorter(&system, "0").await);
    system.cleanup().await;
}

#[tokio::test]
async fn resubmitting_an_accepted_job_succeeds_when_the_queue_is_full() {
    let system = System::with_config("[apps.'bench/timed']\nmax_queue_length = 1").await;
    let headers = [("idempotency-key", "k")];
    let first = system.post(TIMED, &headers, "{}").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_full(
        &system
            .post(TIMED, &[("idempotency-key", "other")], "{}")
            .await,
    );
    let again = system.post(TIMED, &headers, "{}").await;
    assert_eq!(again.body["request_id"], first.body["request_id"]);
    assert_eq!(queued(&system).await, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_queue_limit_is_named() {
    let system = System::with_config(BOUNDED).await;
    for bad in ["-1", "many", "", "1.5", "99999999999999999999"] {
        let answer = submit_if_shorter(&system, bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "'{bad}'");
        let loc = json!(["query", "fal_max_queue_length"]);
        assert_eq!(answer.body["detail"][0]["loc"], loc);
    }
    assert_eq!(queued(&system).await, 0);
    system.cleanup().await;
}

#[tokio::test]
async fn an_amqp_submission_over_the_bound_is_dead_lettered_and_replied_to() {
    let system = System::with_config("[apps.'bench/timed']\nmax_queue_length = 1").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    // Also declares the app's queues.
    assert_eq!(system.post(TIMED, &[], "{}").await.status, StatusCode::OK);
    let app = TIMED.parse().unwrap();
    let mut dead = user
        .consume(&system.testbed.topology().dead_queue(&app))
        .await;
    let properties: BasicProperties = with_hint("m").with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, r#"{"run_ms": 3}"#, properties).await;
    let letter = next(&mut dead).await;
    assert_eq!(letter.data, br#"{"run_ms": 3}"#);
    let reason = header(&letter, "x-warmq-reason");
    assert!(reason.contains("is full (1 of at most 1 jobs)"), "{reason}");
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["error_type"], "queue_full");
    system.cleanup().await;
}
