//! One broken machine among healthy ones takes at most its share of the jobs and loses none.

use std::path::PathBuf;

use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_tests::files::break_storage;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::state::JobState;

const UPSCALE: &str = "warmq/upscale";

/// A transparent pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn picture() -> Value {
    json!({"image_url": PIXEL})
}

/// Starts a worker with a storage of its own.
async fn worker_with_storage(system: &System, name: &str) -> (Worker, PathBuf) {
    let folder = system.testbed.folder().join(format!("files-{name}"));
    let options = WorkerOptions::of("upscale", name, UPSCALE);
    let storage = format!("--storage=file://{}", folder.display());
    (system.worker(options.args([storage])).await, folder)
}

async fn fault_of(system: &System, name: &str) -> Option<String> {
    let runners = system.runners(UPSCALE).await;
    let runner = runners
        .into_iter()
        .find(|runner| runner.id.as_str() == name)?;
    runner.fault
}

#[tokio::test]
async fn one_bad_runner_of_four_loses_no_job_and_takes_no_more_than_its_share() {
    const JOBS: usize = 60;
    let system = System::start().await;
    let (_bad, folder) = worker_with_storage(&system, "bad").await;
    let mut good = Vec::new();
    for name in ["good-a", "good-b", "good-c"] {
        good.push(worker_with_storage(&system, name).await);
    }
    break_storage(&folder);
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(system.submit_to(UPSCALE, "", picture()).await);
    }
    let mut attempts = 0;
    for id in jobs {
        let job = system.succeeded(id).await;
        assert_ne!(job.runner.unwrap().as_str(), "bad");
        attempts += job.attempt as usize;
    }
    // The runner had one job, and possibly a second one on its way.
    let wasted = attempts - JOBS;
    assert!(wasted * 10 < JOBS, "{wasted} of {attempts} attempts failed");
    let fault = system.until("the bad runner is faulty", TIMEOUT, async || {
        fault_of(&system, "bad").await
    });
    let fault = fault.await;
    assert!(fault.starts_with("storage: "), "{fault}");
    let labels = [("app", UPSCALE)];
    system
        .until("the metrics show it", TIMEOUT, async || {
            let page = String::from_utf8(system.get("/metrics").await.bytes).unwrap();
            let page = Page::read(&page);
            let counted = [("app", UPSCALE), ("reason", "storage")];
            let faults = page.get("warmq_runner_faults_total", &counted)?;
            (faults >= 1.0 && page.get("warmq_faulty_runners", &labels) == Some(1.0)).then_some(())
        })
        .await;
    let listed = system.get("/v1/runners").await.body;
    let listed = listed["runners"].as_array().unwrap();
    let bad = listed.iter().find(|runner| runner["id"] == "bad").unwrap();
    assert!(
        bad["fault"].as_str().unwrap().starts_with("storage: "),
        "{bad}"
    );
    assert!(bad["fault_since_ms"].as_u64().is_some(), "{bad}");

    // After the repair it takes jobs again.
    std::fs::remove_file(&folder).unwrap();
    system.all_idle(UPSCALE).await;
    assert_eq!(fault_of(&system, "bad").await, None);
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_that_crashes_three_engines_fails_and_its_runners_continue() {
    let system = System::start().await;
    let mut workers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        workers.push(system.timed_worker(name).await);
    }
    let poison = system
        .submit_to(TIMED, "", json!({"crash": "no luck"}))
        .await;
    let job = system.ended(poison).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.status), (JobState::Failed, 500));
    assert!(
        error
            .message
            .starts_with("failed 3 times with the same fault: the engine crashed (on "),
        "{}",
        error.message
    );
    let app = job.spec.app.clone();
    let log = system
        .testbed
        .store()
        .log()
        .all(&app, poison)
        .await
        .unwrap();
    assert_eq!(job.attempt, 3, "{log:#?}");
    system.all_idle(TIMED).await;
    let runners = system.runners(TIMED).await;
    for (worker, runner) in workers.iter().zip(&runners) {
        assert_eq!(
            worker.runners()[0].epoch,
            runner.epoch,
            "{} left",
            runner.id
        );
        assert_eq!(runner.fault, None);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_hung_engine_ends_its_process() {
    let system = System::with_config("[apps.'bench/timed']\nrun_timeout = '2s'").await;
    let options = WorkerOptions::timed("hanging", TIMED);
    let mut hanging = system.worker(options.args(["--hang-grace-s=1"])).await;
    let job = system
        .submit_to(TIMED, "", json!({"hang_ms": 600_000}))
        .await;
    system.reached(job, JobState::Running).await;
    let status = hanging.wait(TIMEOUT).await.unwrap();
    assert_eq!(status.code(), Some(70), "{}", hanging.log_tail());
    let record = system.job(job).await;
    assert_ne!(record.state, JobState::Running);
    assert_eq!(record.attempt, 1);
    assert!(system.runners(TIMED).await.is_empty());
    system.cleanup().await;
}
