//! Submit, poll, fetch: fal's queue protocol, and the whole record under `/v1`.

use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_tests::Stage;
use warmq_tests::stage::TIMED;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

#[tokio::test]
async fn a_job_is_submitted_polled_and_fetched_by_its_id() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let submitted = stage
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
    let url = |path: &str| Value::from(format!("{}{path}", stage.router.url()));
    assert_eq!(submitted.body["response_url"], url(&base));
    assert_eq!(submitted.body["status_url"], url(&format!("{base}/status")));
    assert_eq!(submitted.body["cancel_url"], url(&format!("{base}/cancel")));

    stage.reached(id, JobState::Running).await;
    let running = stage.get(&format!("{base}/status")).await;
    assert_eq!(running.status, StatusCode::ACCEPTED);
    assert_eq!(running.body["status"], "IN_PROGRESS");
    let early = stage.get(&base).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST);
    assert_eq!(early.body["detail"], "Request is still in progress");

    stage.succeeded(id).await;
    let done = stage.get(&format!("{base}/status?logs=true")).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(done.body["status"], "COMPLETED");
    assert_eq!(done.headers["x-warmq-runner"], "a");
    assert_eq!(done.headers["x-warmq-warm"], "0");
    // A slash at the end, and /response, are the same.
    for path in [base.clone(), format!("{base}/"), format!("{base}/response")] {
        let result = stage.get(&path).await;
        assert_eq!(result.status, StatusCode::OK);
        assert_eq!(result.body, json!({"seven": 7}));
        assert_eq!(result.headers["x-fal-request-id"], id.to_string());
    }
    let record = stage.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(record.body["state"], "succeeded");
    assert_eq!(
        record.body["decision"]["target"],
        json!({"kind": "runner", "runner": "a"})
    );
    stage.clean_up().await;
}

#[tokio::test]
async fn a_failed_job_gives_its_error_instead_of_a_result() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let id = stage
        .submit_to(
            TIMED,
            "m",
            json!({"run_ms": 10, "load_ms": 0, "fail": "no such colour"}),
        )
        .await;
    let job = stage.ended(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
    let base = format!("/queue/{TIMED}/requests/{id}");
    let status = stage.get(&format!("{base}/status")).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.body["status"], "COMPLETED");
    assert_eq!(status.body["error"], "no such colour");
    let result = stage.get(&base).await;
    assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(result.body["detail"][0]["msg"], "no such colour");
    stage.clean_up().await;
}

#[tokio::test]
async fn an_empty_body_is_an_empty_input() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let answer = stage.post(TIMED, &[], "").await;
    let id = answer.body["request_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(stage.succeeded(id).await.spec.input, json!({}));
    stage.clean_up().await;
}

#[tokio::test]
async fn waiting_jobs_know_how_many_are_before_them() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let first = stage.submit("m", 1500).await;
    stage.reached(first, JobState::Running).await;
    let second = stage.submit("m", 0).await;
    let third = stage.submit("m", 0).await;
    for (id, position) in [(second, 0), (third, 1)] {
        let status = stage
            .get(&format!("/queue/{TIMED}/requests/{id}/status"))
            .await;
        assert_eq!(status.body["status"], "IN_QUEUE");
        assert_eq!(status.body["queue_position"], position);
    }
    stage.succeeded(third).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn apps_and_runners_are_listed() {
    let stage = Stage::with_config("[apps.'named/only']").await;
    let _worker = stage.timed("a").await;
    let apps = stage.get("/v1/apps").await;
    let names: Vec<&Value> = apps.body["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| &app["app"])
        .collect();
    assert_eq!(names, [TIMED, "named/only"]);
    let runners = stage.get("/v1/runners").await;
    assert_eq!(runners.body["runners"][0]["id"], "a");
    assert_eq!(runners.body["runners"][0]["idle"], true);
    assert_eq!(
        stage.get("/v1/runners?app=named/only").await.body,
        json!({"runners": []})
    );
    // Whether it warns is this Redis' business.
    let ready = stage.get("/readyz").await.body;
    assert_eq!(
        (&ready["redis"], &ready["rabbitmq"]),
        (&json!("ok"), &json!("ok"))
    );
    stage.clean_up().await;
}
