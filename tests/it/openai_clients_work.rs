//! OpenAI's Python and JavaScript clients, as published, draw pictures with warmq; `clients/` has
//! the scripts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::process::Command;
use warmq_testkit::WorkerOptions;
use warmq_tests::System;

/// Timeout of one script on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

const CONFIG: &str = "[apps.'warmq/diffusion']\nimage_models = ['shapes']\n";

const APP: &str = "warmq/diffusion";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a script against a router with a worker.
async fn script_passes(command: impl FnOnce(&str) -> Command) {
    let system = System::with_config(CONFIG).await;
    let options = WorkerOptions::diffusion("painter", APP, root().join("models"));
    let _painter = system.worker(options).await;
    let output = command(system.router.url()).kill_on_drop(true).output();
    let output = tokio::time::timeout(BOUND, output).await.unwrap().unwrap();
    let report = [output.stdout, output.stderr].concat();
    let report = String::from_utf8_lossy(&report);
    assert!(output.status.success(), "{report}");
    system.cleanup().await;
}

#[tokio::test]
async fn python() {
    let interpreter = root().join(".venv/bin/python");
    assert!(interpreter.exists(), "`make setup-test` installs it");
    script_passes(|router| {
        let mut command = Command::new(interpreter);
        command
            .arg(root().join("tests/clients/openai_works.py"))
            .arg(router);
        command
    })
    .await;
}

#[tokio::test]
async fn javascript() {
    let client = root().join("tests/clients/node_modules/openai");
    assert!(client.exists(), "`make setup-test` installs it");
    script_passes(|router| {
        let mut command = Command::new("node");
        let script = root().join("tests/clients/openai_works.mjs");
        command.arg("--test").arg(script).env("ROUTER", router);
        command
    })
    .await;
}

#[tokio::test]
async fn every_error_of_the_call_has_openais_format() {
    let key = format!("me:{}", "0".repeat(64));
    let system = System::with_config(&format!("admin_key = '{key}'\n{CONFIG}")).await;
    let path = "/v1/images/generations";
    let body = json!({"model": "shapes", "prompt": "a red circle"}).to_string();
    let without_key = system.http(Method::POST, path, &[], body).await;
    assert_eq!(without_key.status, StatusCode::UNAUTHORIZED);
    assert_eq!(without_key.body["error"]["code"], "invalid_api_key");
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    let nameless = system.http(Method::POST, path, &headers, "{}").await;
    assert_eq!(nameless.status, StatusCode::BAD_REQUEST);
    assert_eq!(nameless.body["error"]["type"], "invalid_request_error");
    let wrong_method = system.http(Method::GET, path, &headers, "").await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_that_failed_is_not_repeated_by_the_client() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let body = json!({"model": "bench/timed", "prompt": "", "run_ms": 1, "fail": "out of luck"});
    let path = "/v1/images/generations";
    let failed = system.http(Method::POST, path, &[], body.to_string()).await;
    assert_eq!(failed.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(failed.headers["x-should-retry"], "false");
    assert_eq!(failed.body["error"]["message"], "out of luck");
    let body = json!({"model": "bench/timed", "prompt": "", "run_ms": 1});
    let without = system.http(Method::POST, path, &[], body.to_string()).await;
    assert_eq!(without.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(without.headers["x-should-retry"], "false");
    system.cleanup().await;
}
