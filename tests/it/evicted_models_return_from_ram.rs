//! Evicted models stay in RAM: jobs go to the runner that has their model there, before one that
//! must read its files. Models are loaded and pinned before the first job.

use reqwest::Method;
use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::hint::Hint;
use warmq_types::ids::JobId;
use warmq_types::runner::RunnerRecord;
use warmq_types::tier::Tier;

fn input() -> Value {
    json!({"run_ms": 1, "load_ms": 400, "ram_load_ms": 1})
}

/// Starts a runner with one model on its device and two in RAM, of 1 MiB each.
async fn worker(system: &System, name: &str, args: &[&str]) -> Worker {
    let options = WorkerOptions {
        slots: Some(1),
        memory_budget: Some("1MiB".to_owned()),
        ..WorkerOptions::timed(name, TIMED)
    };
    let args = args.iter().copied().chain(["--ram-budget=2MiB"]);
    system.worker(options.args(args)).await
}

async fn run(system: &System, hint: &str) -> JobId {
    let job = system.submit_to(TIMED, hint, input()).await;
    system.succeeded(job).await;
    job
}

async fn runner(system: &System, worker: &Worker) -> RunnerRecord {
    let mut runners = system.runners(TIMED).await.into_iter();
    runners
        .find(|runner| runner.id == *worker.runner())
        .unwrap()
}

fn names(hints: &[Hint]) -> Vec<&str> {
    hints.iter().map(Hint::as_str).collect()
}

#[tokio::test]
async fn a_job_goes_to_the_idle_runner_with_its_model_in_ram_and_not_to_a_cold_one() {
    let system = System::start().await;
    let owner = worker(&system, "owner", &[]).await;
    run(&system, "a").await;
    run(&system, "b").await;
    let held = runner(&system, &owner).await;
    assert_eq!(names(&held.hints), ["b"]);
    assert_eq!(names(&held.ram_hints), ["a"]);
    assert_eq!((held.ram_bytes, held.ram_budget_bytes), (1 << 20, 2 << 20));
    let _cold = worker(&system, "cold", &["--preload=c"]).await;
    let job = system.submit_to(TIMED, "a", input()).await;
    let record = system.succeeded(job).await;
    assert_eq!(record.runner.unwrap().as_str(), "owner");
    assert_eq!(record.timings.unwrap().tier(), Tier::Ram);
    let decision = record.decision.unwrap();
    assert_eq!((decision.warm, decision.tier), (false, Some(Tier::Ram)));
    let expected = "no runner had 'a' loaded, and owner had it in RAM";
    assert_eq!(decision.reason, expected);
    let held = runner(&system, &owner).await;
    assert_eq!(
        (names(&held.hints), names(&held.ram_hints)),
        (vec!["a"], vec!["b"])
    );
    system.cleanup().await;
}

#[tokio::test]
async fn models_are_loaded_before_the_first_job_and_pinned_ones_stay() {
    let system = System::start().await;
    let options = WorkerOptions {
        slots: Some(2),
        memory_budget: Some("2MiB".to_owned()),
        ..WorkerOptions::timed("eager", TIMED)
    };
    let eager = system
        .worker(options.args(["--pin=a", "--preload=b"]))
        .await;
    let held = runner(&system, &eager).await;
    assert_eq!(
        names(&held.hints),
        ["b", "a"],
        "the pinned one is evicted last"
    );
    assert_eq!(names(&held.pinned), ["a"]);
    for hint in ["a", "c", "d", "a"] {
        let job = system.submit_to(TIMED, hint, input()).await;
        let timings = system.succeeded(job).await.timings.unwrap();
        assert_eq!(timings.warm, hint == "a", "{hint}");
    }
    let held = runner(&system, &eager).await;
    assert_eq!(names(&held.hints), ["d", "a"]);
    system.cleanup().await;
}

/// Changes the models of a runner; returns status and body.
async fn change(system: &System, runner: &str, change: Value) -> (u16, Value) {
    let path = format!("/v1/runners/{runner}/models");
    let headers = [("content-type", "application/json")];
    let response = system
        .http(Method::POST, &path, &headers, change.to_string())
        .await;
    (response.status.as_u16(), response.body)
}

#[tokio::test]
async fn an_operator_loads_pins_and_unloads_models_of_an_idle_runner() {
    let system = System::start().await;
    let options = WorkerOptions {
        slots: Some(2),
        ..WorkerOptions::timed("steered", TIMED)
    };
    let steered = system.worker(options).await;
    let until = async |expected: (&[&str], &[&str])| {
        system
            .until("the runner reports the change", TIMEOUT, async || {
                let held = runner(&system, &steered).await;
                let is_done = (&names(&held.hints)[..], &names(&held.pinned)[..]) == expected;
                (is_done && held.idle).then_some(())
            })
            .await;
    };
    let (status, body) = change(&system, "steered", json!({"load": ["a"], "pin": ["b"]})).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(
        body,
        json!({"load": ["a"], "unload": [], "pin": ["b"], "unpin": []})
    );
    until((&["a", "b"], &["b"])).await;
    // The dispatcher has received the report.
    let job = system.submit_to(TIMED, "a", input()).await;
    let record = system.succeeded(job).await;
    assert!(record.timings.unwrap().warm && record.decision.unwrap().warm);
    let (status, _) = change(&system, "steered", json!({"unpin": ["b"], "unload": ["b"]})).await;
    assert_eq!(status, 202);
    until((&["a"], &[])).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_model_that_does_not_fit_beside_the_pinned_ones_is_not_offered() {
    let system = System::start().await;
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let options = WorkerOptions {
        // One model needs 11.1 MiB.
        memory_budget: Some("20MiB".to_owned()),
        ..WorkerOptions::diffusion("narrow", "warmq/diffusion", models)
    };
    let _worker = system.worker(options.args(["--pin=shapes"])).await;
    let load = json!({"load": ["digits"]});
    let (status, body) = change(&system, "narrow", load.clone()).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(
        body["detail"][0]["msg"],
        "the runner's catalog has no model 'digits': it is not there, or does not fit beside the \
         pinned models"
    );
    let (status, body) = change(&system, "narrow", json!({"unpin": ["shapes"]})).await;
    assert_eq!(status, 202, "{body}");
    system
        .until("the runner offers the model", TIMEOUT, async || {
            let (status, _) = change(&system, "narrow", load.clone()).await;
            (status == 202).then_some(())
        })
        .await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_change_of_an_unknown_runner_or_model_is_refused_by_name() {
    let system = System::start().await;
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let app = "warmq/diffusion";
    let _worker = system
        .worker(WorkerOptions::diffusion("d", app, models))
        .await;
    let (status, body) = change(&system, "missing", json!({"load": ["shapes"]})).await;
    assert_eq!(status, 404, "{body}");
    let (status, body) = change(&system, "d", json!({"load": ["shapes"], "pin": ["none"]})).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["detail"][0]["loc"], json!(["body", "pin"]));
    let message = body["detail"][0]["msg"].as_str().unwrap();
    assert!(message.contains("catalog has no model 'none'"), "{body}");
    let (status, body) = change(&system, "d", json!({"lod": ["shapes"]})).await;
    assert_eq!(status, 422, "{body}");
    system.cleanup().await;
}
