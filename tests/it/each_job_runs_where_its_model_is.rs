//! Workers of one app may have different models: each job runs on one that has its model, and waits
//! for it if necessary.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_tests::system::TIMEOUT;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

const APP: &str = "warmq/diffusion";

/// Makes a folder of links to shipped models.
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

async fn worker(system: &System, name: &str, models: &[&str]) -> Worker {
    let parent = system.testbed.folder().join(name);
    let folder = folder_of(&parent, models);
    system
        .worker(WorkerOptions::diffusion(name, APP, folder))
        .await
}

fn input(model: &str) -> Value {
    json!({"prompt": "a", "model": model, "steps": 1})
}

/// Submits jobs for both models, with the header or without.
async fn submit_both(system: &System, count: usize) -> Vec<(JobId, &'static str)> {
    let mut jobs = Vec::new();
    for number in 0..count {
        let model = ["shapes", "digits"][number % 2];
        let hint = if number % 4 < 2 { model } else { "" };
        jobs.push((system.submit_to(APP, hint, input(model)).await, model));
    }
    jobs
}

async fn all_run_on(system: &System, jobs: Vec<(JobId, &str)>, shapes: &str, digits: &str) {
    for (id, model) in jobs {
        let job = system.succeeded(id).await;
        let runner = job.runner.unwrap();
        let owner = if model == "shapes" { shapes } else { digits };
        assert_eq!((runner.as_str(), job.attempt), (owner, 1), "{model}");
    }
}

#[tokio::test]
async fn jobs_run_on_the_worker_that_has_their_model_regardless_of_names() {
    for (shapes, digits) in [("a", "z"), ("z", "a")] {
        let system = System::start().await;
        let _shapes = worker(&system, shapes, &["shapes"]).await;
        let _digits = worker(&system, digits, &["digits"]).await;
        let jobs = submit_both(&system, 20).await;
        all_run_on(&system, jobs, shapes, digits).await;
        system.cleanup().await;
    }
}

#[tokio::test]
async fn a_job_waits_for_the_only_runner_with_its_model_to_restart() {
    let system = System::start().await;
    let mut owner = worker(&system, "owner", &["shapes"]).await;
    let _other = worker(&system, "other", &["digits"]).await;
    owner.stop(TIMEOUT).await.unwrap();
    let waiting = system.submit_to(APP, "shapes", input("shapes")).await;
    // The other worker continues with its own models, and an unknown model is reported as such.
    let digits = system.submit_to(APP, "digits", input("digits")).await;
    system.succeeded(digits).await;
    let unknown = system.post(APP, &[], &input("none").to_string()).await;
    assert_eq!(unknown.status, 422);
    let hold = async || system.job(waiting).await.hold;
    let hold = system.until("its hold is recorded", TIMEOUT, hold).await;
    assert_eq!(system.job(waiting).await.state, JobState::Queued);
    let reason = hold.reason;
    assert!(
        reason.contains("no live runner can load 'shapes'"),
        "{reason}"
    );

    let options = WorkerOptions::diffusion(
        "back",
        APP,
        system.testbed.folder().join("owner").join("shapes"),
    );
    let _back = system.worker(options).await;
    let ran = system.succeeded(waiting).await;
    assert_eq!(ran.runner.unwrap().as_str(), "back");
    system.cleanup().await;
}

#[tokio::test]
async fn policy_fal_sends_no_job_to_a_runner_without_its_model() {
    let system = System::with_config(&format!("[apps.'{APP}']\npolicy = 'fal'")).await;
    let _shapes = worker(&system, "z", &["shapes"]).await;
    let _digits = worker(&system, "a", &["digits"]).await;
    let jobs = submit_both(&system, 8).await;
    for (id, model) in jobs {
        let job = system.succeeded(id).await;
        let owner = if model == "shapes" { "z" } else { "a" };
        assert_eq!(job.runner.unwrap().as_str(), owner, "{model}");
    }
    system.cleanup().await;
}
