//! Workers of one app may have different models: each job runs on one that has its model, and waits for it if need be.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::Stage;
use warmq_tests::stage::SOON;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

const APP: &str = "warmq/diffusion";

/// A folder of links to these shipped models.
fn folder_of(parent: &Path, models: &[&str]) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let folder = parent.join(models.join("-"));
    std::fs::create_dir_all(&folder).unwrap();
    for model in models {
        let model_folder = shipped.join(model).canonicalize().unwrap();
        std::os::unix::fs::symlink(model_folder, folder.join(model)).unwrap();
    }
    folder
}

async fn worker(stage: &Stage, name: &str, models: &[&str]) -> Worker {
    let parent = stage.cluster.folder().join(name);
    let folder = folder_of(&parent, models);
    stage
        .worker(WorkerOptions::diffusion(name, APP, folder))
        .await
}

fn input(model: &str) -> Value {
    json!({"prompt": "a", "model": model, "steps": 1})
}

/// Submits jobs for both models, with the header or without.
async fn submit_both(stage: &Stage, count: usize) -> Vec<(JobId, &'static str)> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let model = ["shapes", "digits"][number % 2];
        let hint = if number % 4 < 2 { model } else { "" };
        jobs.push((stage.submit_to(APP, hint, input(model)).await, model));
    }
    jobs
}

async fn all_run_on(stage: &Stage, jobs: Vec<(JobId, &str)>, shapes: &str, digits: &str) {
    for (id, model) in jobs {
        let job = stage.succeeded(id).await;
        let runner = job.runner.unwrap();
        let owner = if model == "shapes" { shapes } else { digits };
        assert_eq!((runner.as_str(), job.attempt), (owner, 1), "{model}");
    }
}

#[tokio::test]
async fn jobs_run_on_the_worker_that_has_their_model_whichever_comes_first_by_name() {
    for (shapes, digits) in [("a", "z"), ("z", "a")] {
        let stage = Stage::start().await;
        let _shapes = worker(&stage, shapes, &["shapes"]).await;
        let _digits = worker(&stage, digits, &["digits"]).await;
        let jobs = submit_both(&stage, 20).await;
        all_run_on(&stage, jobs, shapes, digits).await;
        stage.clean_up().await;
    }
}

#[tokio::test]
async fn a_job_whose_only_owner_is_stopped_waits_until_it_is_back() {
    let stage = Stage::start().await;
    let mut owner = worker(&stage, "owner", &["shapes"]).await;
    let _other = worker(&stage, "other", &["digits"]).await;
    owner.terminate().unwrap();
    owner.wait(SOON).await.unwrap();
    let waiting = stage.submit_to(APP, "shapes", input("shapes")).await;
    // The other one goes on with what it has, and says of an unknown model that it is.
    let digits = stage.submit_to(APP, "digits", input("digits")).await;
    stage.succeeded(digits).await;
    let unknown = stage.submit_to(APP, "none", input("none")).await;
    let unknown = stage.ended(unknown).await;
    assert_eq!(unknown.error.unwrap().status, 422);
    let held = stage.job(waiting).await;
    assert_eq!(held.state, JobState::Queued);
    let reason = held.hold.unwrap().reason;
    assert!(
        reason.contains("no live runner can load 'shapes'"),
        "{reason}"
    );

    let options = WorkerOptions::diffusion(
        "back",
        APP,
        stage.cluster.folder().join("owner").join("shapes"),
    );
    let _back = stage.worker(options).await;
    let ran = stage.succeeded(waiting).await;
    assert_eq!(ran.runner.unwrap().as_str(), "back");
    stage.clean_up().await;
}

#[tokio::test]
async fn policy_fal_sends_no_job_to_a_runner_without_its_model() {
    let stage = Stage::with_config(&format!("[apps.'{APP}']\npolicy = 'fal'")).await;
    let _shapes = worker(&stage, "z", &["shapes"]).await;
    let _digits = worker(&stage, "a", &["digits"]).await;
    let jobs = submit_both(&stage, 8).await;
    for (id, model) in jobs {
        let job = stage.succeeded(id).await;
        let owner = if model == "shapes" { "z" } else { "a" };
        assert_eq!(job.runner.unwrap().as_str(), owner, "{model}");
    }
    stage.clean_up().await;
}
