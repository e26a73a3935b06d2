//! Models that no runner lists: refused with the list of known ones, or awaited, as the app says.

use reqwest::StatusCode;
use serde_json::json;
use warmq_testkit::WorkerOptions;
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::state::JobState;

fn worker(name: &str, only: &str) -> WorkerOptions {
    WorkerOptions::timed(name, TIMED).args(["--only", only])
}

/// Waits until a dispatcher knows the runner.
async fn started(system: &System, options: WorkerOptions) -> warmq_testkit::Worker {
    let worker = system.worker(options).await;
    system.succeeded(system.submit("", 1).await).await;
    worker
}

#[tokio::test]
async fn a_model_that_no_runner_lists_is_refused_with_the_known_ones() {
    let system = System::start().await;
    let _workers = [
        started(&system, worker("a", "flux-dev,flux-schnell")).await,
        started(&system, worker("b", "sdxl")).await,
    ];
    let answer = system
        .post(TIMED, &[("x-fal-runner-hint", "sd15")], "{}")
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let detail = &answer.body["detail"][0];
    assert_eq!(detail["loc"], json!(["header", "x-fal-runner-hint"]));
    assert_eq!(detail["type"], "model_not_found");
    let message = detail["msg"].as_str().unwrap();
    let known = "no runner lists the model 'sd15'; known models: flux-dev, flux-schnell, sdxl";
    assert_eq!(message, known);
    // Each runs where it is listed.
    for (model, runner) in [("sdxl", "b"), ("flux-dev", "a"), ("flux-schnell", "a")] {
        let job = system.succeeded(system.submit(model, 1).await).await;
        assert_eq!(job.runner.unwrap().as_str(), runner, "{model}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_waits_for_a_model_that_is_rolled_out() {
    let config = format!("[apps.'{TIMED}']\nwait_for_model = '10m'");
    let system = System::with_config(&config).await;
    let _old = started(&system, worker("old", "sdxl")).await;
    let waiting = system.submit("flux", 1).await;
    // The only runner takes other jobs meanwhile.
    system.succeeded(system.submit("sdxl", 1).await).await;
    let held = system.job(waiting).await;
    assert_eq!((held.state, held.attempt), (JobState::Queued, 0));
    let _new = system.worker(worker("new", "sdxl,flux")).await;
    let job = system.succeeded(waiting).await;
    assert_eq!(job.runner.unwrap().as_str(), "new");
    system.cleanup().await;
}

#[tokio::test]
async fn a_model_that_does_not_appear_in_time_ends_its_jobs() {
    let config = format!("[apps.'{TIMED}']\nwait_for_model = '1s'");
    let system = System::with_config(&config).await;
    let _worker = started(&system, worker("a", "sdxl")).await;
    let waiting = system.submit("flux", 1).await;
    assert_eq!(system.ended(waiting).await.state, JobState::Expired);
    system.cleanup().await;
}

#[tokio::test]
async fn a_pattern_needs_an_engine_that_lists_its_models() {
    let system = System::start().await;
    let error = system
        .testbed
        .worker(worker("a", "flux*"))
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("'flux*' needs an engine that lists"),
        "{error}"
    );
    system.cleanup().await;
}
