//! Submit, poll, fetch: fal's queue protocol, and the whole record under `/v1`.

use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

#[tokio::test]
async fn a_job_is_submitted_polled_and_fetched_by_its_id() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let submitted = system
        .post(
            TIMED,
            &[("x-fal-runner-hint", "m")],
            r#"{"run_ms": 400, "output": {"seven": 7}}"#,
        )
        .await;
    assert_eq!(submitted.status, StatusCode::OK);
    assert_eq!(submitted.body["status"], "IN_QUEUE");
    let id: JobId = submitted.body["request_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let base = format!("/queue/{TIMED}/requests/{id}");
    let url = |path: &str| Value::from(format!("{}{path}", system.router.url()));
    assert_eq!(submitted.body["response_url"], url(&base));
    assert_eq!(submitted.body["status_url"], url(&format!("{base}/status")));
    assert_eq!(submitted.body["cancel_url"], url(&format!("{base}/cancel")));

    system.reached(id, JobState::Running).await;
    let running = system.get(&format!("{base}/status")).await;
    assert_eq!(running.status, StatusCode::ACCEPTED);
    assert_eq!(running.body["status"], "IN_PROGRESS");
    let early = system.get(&base).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST);
    assert_eq!(early.body["detail"], "Request is still in progress");

    system.succeeded(id).await;
    let done = system.get(&format!("{base}/status?logs=true")).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(done.body["status"], "COMPLETED");
    assert_eq!(done.headers["x-warmq-runner"], "a");
    assert_eq!(done.headers["x-warmq-warm"], "0");
    // A trailing slash and `/response` are equivalent.
    for path in [base.clone(), format!("{base}/"), format!("{base}/response")] {
        let result = system.get(&path).await;
        assert_eq!(result.status, StatusCode::OK);
        assert_eq!(result.body, json!({"seven": 7}));
        assert_eq!(result.headers["x-fal-request-id"], id.to_string());
    }
    let record = system.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(record.body["state"], "succeeded");
    assert_eq!(
        record.body["decision"]["target"],
        json!({"kind": "runner", "runner": "a"})
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_failed_job_gives_its_error_instead_of_a_result() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let id = system
        .submit_to(
            TIMED,
            "m",
            json!({"run_ms": 10, "load_ms": 0, "fail": "no such colour"}),
        )
        .await;
    let job = system.ended(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
    let base = format!("/queue/{TIMED}/requests/{id}");
    let status = system.get(&format!("{base}/status")).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.body["status"], "COMPLETED");
    assert_eq!(status.body["error"], "no such colour");
    let result = system.get(&base).await;
    assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(result.body["detail"][0]["msg"], "no such colour");
    system.cleanup().await;
}

#[tokio::test]
async fn an_empty_body_is_an_empty_input() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let answer = system.post(TIMED, &[], "").await;
    let id = answer.job_id();
    assert_eq!(system.succeeded(id).await.spec.input, json!({}));
    system.cleanup().await;
}

#[tokio::test]
async fn waiting_jobs_report_their_queue_position() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let first = system.submit("m", 1500).await;
    system.reached(first, JobState::Running).await;
    let second = system.submit("m", 0).await;
    let third = system.submit("m", 0).await;
    for (id, position) in [(second, 0), (third, 1)] {
        let status = system
            .get(&format!("/queue/{TIMED}/requests/{id}/status"))
            .await;
        assert_eq!(status.body["status"], "IN_QUEUE");
        assert_eq!(status.body["queue_position"], position);
    }
    system.succeeded(third).await;
    system.cleanup().await;
}

#[tokio::test]
async fn apps_and_runners_are_listed() {
    let system = System::with_config("[apps.'named/only']").await;
    let _worker = system.timed_worker("a").await;
    let apps = system.get("/v1/apps").await;
    let names: Vec<&Value> = apps.body["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| &app["app"])
        .collect();
    assert_eq!(names, [TIMED, "named/only"]);
    let runners = system.get("/v1/runners").await;
    assert_eq!(runners.body["runners"][0]["id"], "a");
    assert_eq!(runners.body["runners"][0]["idle"], true);
    assert_eq!(
        system.get("/v1/runners?app=named/only").await.body,
        json!({"runners": []})
    );
    // Warnings depend on this Redis' configuration.
    let ready = system.get("/readyz").await.body;
    assert_eq!(
        (&ready["redis"], &ready["rabbitmq"]),
        (&json!("ok"), &json!("ok"))
    );
    system.cleanup().await;
}
