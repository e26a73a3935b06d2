//! Hints, whatever the policy: where they come from, what they may be, when runners report them.

use serde_json::json;
use warmq_common::hint::Hint;
use warmq_common::ids::JobId;
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
