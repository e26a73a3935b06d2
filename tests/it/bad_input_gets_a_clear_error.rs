//! Every mistake of a submitter has its own error, which names the mistake, and nothing is
//! recorded.

use reqwest::{Method, StatusCode};
use serde_json::json;
use warmq_tests::System;
use warmq_tests::system::TIMED;

#[tokio::test]
async fn each_mistake_has_its_status_and_names_its_location() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let long_hint = "x".repeat(257);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    type Case<'a> = (
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a str,
        u16,
        &'a str,
        &'a str,
    );
    let cases: [Case<'_>; 11] = [
        (
            TIMED,
            &[],
            "{\"run_ms\": ",
            400,
            "/error_type",
            "bad_request",
        ),
        (TIMED, &[], "nonsense", 400, "/error_type", "bad_request"),
        (TIMED, &[], &deep, 400, "/error_type", "bad_request"),
        ("no/such", &[], "{}", 404, "/error_type", "not_found"),
        ("No/app", &[], "{}", 422, "/detail/0/loc/1", "app"),
        ("no.dots/app", &[], "{}", 422, "/detail/0/loc/1", "app"),
        (
            TIMED,
            &[],
            r#"{"run_ms": "long"}"#,
            422,
            "/detail/0/loc/1",
            "run_ms",
        ),
        (
            TIMED,
            &[],
            r#"{"run_ms": -1}"#,
            422,
            "/detail/0/loc/1",
            "run_ms",
        ),
        (TIMED, &[], "[]", 422, "/detail/0/loc/0", "body"),
        (
            TIMED,
            &[("x-fal-runner-hint", &long_hint)],
            "{}",
            422,
            "/detail/0/loc/1",
            "x-fal-runner-hint",
        ),
        (
            TIMED,
            &[("x-fal-queue-priority", "urgent")],
            "{}",
            422,
            "/detail/0/loc/1",
            "x-fal-queue-priority",
        ),
    ];
    for (app, headers, body, status, pointer, expected) in cases {
        let answer = system.post(app, headers, body).await;
        let what = body.chars().take(40).collect::<String>();
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{app} {what}: {:?}",
            answer.body
        );
        let found = answer.body.pointer(pointer);
        assert_eq!(
            found,
            Some(&json!(expected)),
            "{app} {what}: {:?}",
            answer.body
        );
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    let apps = system.get("/v1/apps").await;
    assert_eq!(apps.body["apps"][0]["queued"], 0);
    system.cleanup().await;
}

#[tokio::test]
async fn several_wrong_fields_are_all_named() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let answer = system
        .post(TIMED, &[], r#"{"run_ms": "x", "load_ms": -5}"#)
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let mut fields: Vec<&str> = answer.body["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["loc"][1].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["load_ms", "run_ms"]);
    system.cleanup().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let small = system
        .testbed
        .router(&["--max-body", "1KiB"])
        .await
        .unwrap();
    let body = json!({"output": "x".repeat(2000)}).to_string();
    let url = format!("{}/queue/{TIMED}", small.url());
    let response = reqwest::Client::new()
        .post(url)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(body["error_type"], "payload_too_large");
    system.cleanup().await;
}

#[tokio::test]
async fn unknown_jobs_paths_and_methods_have_different_statuses() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let id = system.submit("m", 1).await;
    system.succeeded(id).await;
    for path in [
        "/v1/jobs/not-an-id".to_owned(),
        format!("/v1/jobs/{}", warmq_types::ids::JobId::generate()),
        format!("/queue/{TIMED}/requests/nonsense/status"),
        format!("/queue/other/app/requests/{id}"),
        "/files/bench/timed/none/0.png".to_owned(),
        "/nowhere".to_owned(),
    ] {
        let answer = system.get(&path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.body["detail"].is_string(), "{path}");
    }
    let answer = system.http(Method::POST, "/v1/jobs/x", &[], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.body["detail"].is_string());
    system.cleanup().await;
}

#[tokio::test]
async fn files_outside_the_storage_are_not_served() {
    let system = System::start().await;
    std::fs::create_dir_all(system.testbed.folder().join("files")).unwrap();
    std::fs::write(system.testbed.folder().join("secret"), "secret").unwrap();
    for path in [
        "/files/..%2fsecret",
        "/files/%2e%2e/secret",
        "/files/a/..%2f..%2fsecret",
    ] {
        let answer = system.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    system.cleanup().await;
}
