//! Policy `fal`, to the letter: matching idle runner, else a blank idle one, else whoever is free first.

use serde_json::json;
use warmq_common::hint::Hint;
use warmq_common::ids::JobId;
use warmq_common::job::Target;
use warmq_common::state::JobState;
use warmq_tests::Stage;
use warmq_tests::stage::TIMED;

fn hints(names: &[&str]) -> Vec<Hint> {
    names
        .iter()
        .map(|name| Hint::parse(name).unwrap())
        .collect()
}

#[tokio::test]
async fn a_job_goes_to_the_idle_runner_that_reports_its_hint() {
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let first = stage.succeeded(stage.submit("shapes", 10).await).await;
    assert!(!first.timings.unwrap().warm);
    stage.all_idle(TIMED).await;
    // The other runner still reports nothing, so it takes what nobody has.
    let other = stage.succeeded(stage.submit("digits", 10).await).await;
    assert_ne!(first.runner, other.runner);
    for _ in 0..5 {
        for (hint, home) in [("shapes", &first), ("digits", &other)] {
            stage.all_idle(TIMED).await;
            let job = stage.succeeded(stage.submit(hint, 10).await).await;
            let decision = job.decision.unwrap();
            assert_eq!(job.runner, home.runner, "{}", decision.reason);
            assert!(decision.warm && job.timings.unwrap().warm);
            assert_eq!(decision.warm_candidates.len(), 1);
        }
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn a_job_that_nobody_matches_goes_to_whoever_is_free() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    stage.succeeded(stage.submit("shapes", 10).await).await;
    stage.all_idle(TIMED).await;
    // Exact: "shape" is not "shapes".
    let job = stage.succeeded(stage.submit("shape", 10).await).await;
    let decision = job.decision.unwrap();
    assert_eq!(decision.target, Target::Shared);
    assert!(!job.timings.unwrap().warm);
    stage.clean_up().await;
}

#[tokio::test]
async fn hints_are_refreshed_after_every_job_failed_ones_too() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let reported = async || stage.runners(TIMED).await[0].hints.clone();
    assert_eq!(reported().await, []);
    stage.succeeded(stage.submit("one", 10).await).await;
    assert_eq!(reported().await, hints(&["one"]));
    let failing = json!({"run_ms": 10, "load_ms": 10, "fail": "on purpose"});
    let failed = stage
        .ended(stage.submit_to(TIMED, "two", failing).await)
        .await;
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(reported().await, hints(&["one", "two"]));
    // Room for two: the least recently used goes, and its hint with it.
    stage.succeeded(stage.submit("one", 10).await).await;
    stage.succeeded(stage.submit("three", 10).await).await;
    assert_eq!(reported().await, hints(&["one", "three"]));
    stage.all_idle(TIMED).await;
    let again = stage.succeeded(stage.submit("two", 10).await).await;
    assert!(again.decision.unwrap().warm_candidates.is_empty());
    stage.clean_up().await;
}

#[tokio::test]
async fn a_hint_never_blocks_a_job() {
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    // Everybody wants one model, and its runner is busy: the other one serves it as well.
    stage.succeeded(stage.submit("hot", 10).await).await;
    stage.all_idle(TIMED).await;
    let busy = stage.submit("hot", 2000).await;
    let running = stage.reached(busy, JobState::Running).await;
    let second = stage.succeeded(stage.submit("hot", 10).await).await;
    assert_ne!(second.runner, running.runner);
    assert_eq!(stage.job(busy).await.state, JobState::Running);
    stage.clean_up().await;
}

#[tokio::test]
async fn any_text_can_be_a_hint() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    for hint in [
        "with, comma",
        "stable diffusion: v1.5 {fp16}",
        "模型",
        "*",
        "a'b\"c",
    ] {
        stage.succeeded(stage.submit(hint, 10).await).await;
        stage.all_idle(TIMED).await;
        let job = stage.succeeded(stage.submit(hint, 10).await).await;
        assert!(job.decision.unwrap().warm, "{hint}");
        assert_eq!(job.spec.hint.unwrap().as_str(), hint);
        stage.all_idle(TIMED).await;
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn the_hint_is_read_from_the_input_when_the_config_says_where() {
    let stage = Stage::with_config("[apps.'bench/timed']\nhint_from = 'input.model'").await;
    let _worker = stage.timed("a").await;
    let answer = stage
        .post(
            TIMED,
            &[],
            r#"{"run_ms": 1, "load_ms": 1, "model": "derived"}"#,
        )
        .await;
    let id = answer.body["request_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        stage.succeeded(id).await.spec.hint.unwrap().as_str(),
        "derived"
    );
    // What the submitter says wins.
    let answer = stage
        .post(
            TIMED,
            &[("x-runner-hint", "said")],
            r#"{"run_ms": 1, "model": "derived"}"#,
        )
        .await;
    let id: JobId = answer.body["request_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        stage.succeeded(id).await.spec.hint.unwrap().as_str(),
        "said"
    );
    stage.clean_up().await;
}

#[tokio::test]
async fn a_low_job_waits_until_no_normal_one_does() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let busy = stage.submit("m", 1000).await;
    stage.reached(busy, JobState::Running).await;
    let mut normal = vec![stage.submit("m", 200).await, stage.submit("m", 200).await];
    stage.reached(normal[1], JobState::Dispatched).await;
    let headers = [("x-fal-queue-priority", "low"), ("x-fal-runner-hint", "m")];
    let answer = stage.post(TIMED, &headers, r#"{"run_ms": 1}"#).await;
    let low: JobId = answer.body["request_id"].as_str().unwrap().parse().unwrap();
    normal.push(stage.submit("m", 200).await);
    let low = stage.succeeded(low).await;
    for id in normal {
        let normal = stage.succeeded(id).await;
        assert!(
            normal.started_ms < low.started_ms,
            "a low job overtook a normal one"
        );
    }
    stage.clean_up().await;
}
