//! Policy `fal`, to the letter: matching idle runner, else a blank idle one, else whoever is free first.

use warmq_tests::Stage;
use warmq_tests::stage::TIMED;
use warmq_types::ids::JobId;
use warmq_types::job::Target;
use warmq_types::state::JobState;

const FAL: &str = "[apps.'bench/timed']\npolicy = 'fal'";

#[tokio::test]
async fn a_job_goes_to_the_idle_runner_that_reports_its_hint() {
    let stage = Stage::with_config(FAL).await;
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
    let stage = Stage::with_config(FAL).await;
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
async fn a_hint_never_blocks_a_job() {
    let stage = Stage::with_config(FAL).await;
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
async fn a_low_job_waits_until_no_normal_one_does() {
    let stage = Stage::with_config(FAL).await;
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
