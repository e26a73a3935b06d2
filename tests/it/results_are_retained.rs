//! How long a job's record is kept after its end, and which parts.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_testkit::eventually;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

const INPUT: &str = r#"{"run_ms": 400, "load_ms": 1, "output": "seen"}"#;

/// Submits [`INPUT`] with these headers.
async fn submit(system: &System, headers: &[(&str, &str)]) -> JobId {
    system.post(TIMED, headers, INPUT).await.job_id()
}

/// Returns the remaining retention, s; none before the end.
async fn kept_s(system: &System, id: JobId) -> Option<u64> {
    let app = TIMED.parse().unwrap();
    system
        .testbed
        .store()
        .jobs()
        .kept_s(&app, id)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_record_is_retained_for_a_day_or_as_the_app_sets() {
    for (config, expected_s) in [
        ("", 86_400),
        ("[apps.'bench/timed']\nretention = '90s'", 90),
    ] {
        let system = System::with_config(config).await;
        let _worker = system.timed_worker("a").await;
        let id = submit(&system, &[]).await;
        assert_eq!(kept_s(&system, id).await, None, "it has not ended");
        system.succeeded(id).await;
        let kept_s = kept_s(&system, id).await.unwrap();
        assert!((expected_s - 30..=expected_s).contains(&kept_s), "{kept_s}");
        system.cleanup().await;
    }
}

#[tokio::test]
async fn an_unstored_job_shows_no_input_and_its_output_briefly() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    for name in ["x-fal-store-io", "x-store-io"] {
        let id = submit(&system, &[(name, "0")]).await;
        system.reached(id, JobState::Running).await;
        let shown = system.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(shown.body["input"], Value::Null, "while it runs");
        let ended = system.succeeded(id).await;
        assert_eq!(ended.spec.input, Value::Null, "Redis has it no more");
        let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
        assert_eq!(result.body, "seen");
        let kept_s = kept_s(&system, id).await.unwrap();
        assert!((570..=600).contains(&kept_s), "{kept_s}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn other_jobs_keep_their_input() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let id = submit(&system, &[("x-fal-store-io", "1")]).await;
    system.succeeded(id).await;
    let shown = system.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(shown.body["input"]["output"], "seen");
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_store_header_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let answer = system
        .post(TIMED, &[("x-fal-store-io", "maybe")], INPUT)
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let loc = json!(["header", "x-fal-store-io"]);
    assert_eq!(answer.body["detail"][0]["loc"], loc);
    system.cleanup().await;
}

#[tokio::test]
async fn an_amqp_job_need_not_be_stored_either() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let id = JobId::generate();
    let mut headers = FieldTable::default();
    headers.insert("x-store-io".into(), AMQPValue::LongInt(0));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id.to_string().into());
    user.submit(TIMED, INPUT, properties).await;
    eventually("the job is known", TIMEOUT, async || {
        system.testbed.store().jobs().job(id).await.unwrap()
    })
    .await
    .unwrap();
    let ended = system.succeeded(id).await;
    assert_eq!(ended.spec.input, Value::Null);
    assert_eq!(ended.output, Some(json!("seen")));
    system.cleanup().await;
}
