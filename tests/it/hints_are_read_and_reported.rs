//! Hints under either policy: sources, allowed texts, and when runners report them.

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use warmq_testkit::WorkerOptions;
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::hint::{Hint, HintSource};
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

fn hints(names: &[&str]) -> Vec<Hint> {
    names
        .iter()
        .map(|name| Hint::parse(name).unwrap())
        .collect()
}

#[tokio::test]
async fn hints_are_refreshed_after_every_job_failed_ones_too() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let reported = async || system.runners(TIMED).await[0].hints.clone();
    assert_eq!(reported().await, []);
    system.succeeded(system.submit("one", 10).await).await;
    assert_eq!(reported().await, hints(&["one"]));
    let failing = json!({"run_ms": 10, "load_ms": 10, "fail": "on purpose"});
    let failed = system
        .ended(system.submit_to(TIMED, "two", failing).await)
        .await;
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(reported().await, hints(&["one", "two"]));
    // Two slots: the least recently used model is evicted, and its hint removed.
    system.succeeded(system.submit("one", 10).await).await;
    system.succeeded(system.submit("three", 10).await).await;
    assert_eq!(reported().await, hints(&["one", "three"]));
    system.all_idle(TIMED).await;
    let again = system.succeeded(system.submit("two", 10).await).await;
    assert!(again.decision.unwrap().warm_candidates.is_empty());
    system.cleanup().await;
}

#[tokio::test]
async fn any_text_can_be_a_hint() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    for hint in [
        "with, comma",
        "stable diffusion: v1.5 {fp16}",
        "模型",
        "*",
        "a'b\"c",
    ] {
        system.succeeded(system.submit(hint, 10).await).await;
        system.all_idle(TIMED).await;
        let job = system.succeeded(system.submit(hint, 10).await).await;
        assert!(job.decision.unwrap().warm, "{hint}");
        assert_eq!(job.spec.hint.unwrap().as_str(), hint);
        system.all_idle(TIMED).await;
    }
    system.cleanup().await;
}

/// Submits with a hint in the header, and returns the record once the job succeeded.
async fn succeeded_with(system: &System, app: &str, hint: &[u8], input: Value) -> JobRecord {
    let answer = reqwest::Client::new()
        .post(format!("{}/queue/{app}", system.router.url()))
        .header("x-fal-runner-hint", HeaderValue::from_bytes(hint).unwrap())
        .json(&input)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    let id = answer["request_id"].as_str().unwrap().parse().unwrap();
    system.succeeded(id).await
}

#[tokio::test]
async fn a_header_in_latin_1_is_the_same_hint_as_in_utf_8() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    for header in ["modèle".as_bytes(), b"mod\xe8le"] {
        let input = json!({"run_ms": 1, "load_ms": 1});
        let job = succeeded_with(&system, TIMED, header, input).await;
        assert_eq!(job.spec.hint, Some(Hint::parse("modèle").unwrap()));
        assert_eq!(job.spec.hint_source, Some(HintSource::Header));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn the_configured_input_field_overrides_the_hint_header() {
    let system = System::with_config("[apps.'bench/timed']\nhint_from = 'input.model'").await;
    let _worker = system.timed_worker("a").await;
    let named = json!({"run_ms": 1, "load_ms": 1, "model": "named"});
    for (header, overruled) in [("", None), ("named", None), ("output", Some("output"))] {
        let job = succeeded_with(&system, TIMED, header.as_bytes(), named.clone()).await;
        let source = HintSource::Input {
            field: "input.model".to_owned(),
            overruled: overruled.map(|hint| Hint::parse(hint).unwrap()),
        };
        assert_eq!(job.spec.hint, Some(Hint::parse("named").unwrap()));
        assert_eq!(job.spec.hint_source, Some(source));
        let log = system
            .testbed
            .store()
            .log()
            .all(&job.spec.app, job.spec.id)
            .await;
        let line = "ignored the runner hint 'output': input.model is 'named'";
        let is_logged = log.unwrap().iter().any(|entry| entry.message == line);
        assert_eq!(is_logged, overruled.is_some());
    }
    // If the input has no such field, the header counts.
    for model in [Value::Null, json!(""), json!(7), json!(["named"])] {
        let input = json!({"run_ms": 1, "load_ms": 1, "model": model});
        let job = succeeded_with(&system, TIMED, b"output", input).await;
        assert_eq!(job.spec.hint, Some(Hint::parse("output").unwrap()));
    }
    let long = json!({"model": "x".repeat(257)}).to_string();
    let answer = system.post(TIMED, &[], &long).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["detail"][0]["loc"], json!(["body", "model"]));
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_that_name_their_model_run_warm_without_header_or_config() {
    const APP: &str = "warmq/diffusion";
    const JOBS: usize = 24;
    let system = System::start().await;
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let options = |name| WorkerOptions {
        // One slot.
        memory_budget: Some("31MiB".to_owned()),
        ..WorkerOptions::diffusion(name, APP, &models)
    };
    let _workers = [
        system.worker(options("a")).await,
        system.worker(options("b")).await,
    ];
    let mut cold = 0;
    for index in 0..JOBS / 2 {
        // Every second job has a hint that contradicts its model.
        let header = ["", "digits"][index % 2];
        let job = |model: &str| {
            let input = json!({"model": model, "prompt": "a", "steps": 1});
            succeeded_with(&system, APP, header.as_bytes(), input)
        };
        for record in <[JobRecord; 2]>::from(tokio::join!(job("shapes"), job("digits"))) {
            let model = record.spec.input["model"].as_str();
            assert_eq!(record.spec.hint.as_ref().map(Hint::as_str), model);
            cold += usize::from(!record.timings.unwrap().warm);
        }
    }
    assert!(cold <= 4, "{cold} of {JOBS} jobs had to load their model");
    system.cleanup().await;
}
