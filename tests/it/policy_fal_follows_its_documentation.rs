//! Policy `fal`, to the letter: a matching idle runner, else a blank idle one, else the first that
//! is idle.

use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::job::Target;
use warmq_types::state::JobState;

const FAL: &str = "[apps.'bench/timed']\npolicy = 'fal'";

#[tokio::test]
async fn a_job_goes_to_the_idle_runner_that_reports_its_hint() {
    let system = System::with_config(FAL).await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let first = system.succeeded(system.submit("shapes", 10).await).await;
    assert!(!first.timings.unwrap().warm);
    system.all_idle(TIMED).await;
    // The other runner reports no hint yet, so it takes unmatched jobs.
    let other = system.succeeded(system.submit("digits", 10).await).await;
    assert_ne!(first.runner, other.runner);
    for _ in 0..5 {
        for (hint, home) in [("shapes", &first), ("digits", &other)] {
            system.all_idle(TIMED).await;
            let job = system.succeeded(system.submit(hint, 10).await).await;
            let decision = job.decision.unwrap();
            assert_eq!(job.runner, home.runner, "{}", decision.reason);
            assert!(decision.warm && job.timings.unwrap().warm);
            assert_eq!(decision.warm_candidates.len(), 1);
        }
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_without_a_match_goes_to_any_idle_runner() {
    let system = System::with_config(FAL).await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("shapes", 10).await).await;
    system.all_idle(TIMED).await;
    // Exact: "shape" is not "shapes".
    let job = system.succeeded(system.submit("shape", 10).await).await;
    let decision = job.decision.unwrap();
    assert_eq!(decision.target, Target::Shared);
    assert!(!job.timings.unwrap().warm);
    system.cleanup().await;
}

#[tokio::test]
async fn a_hint_never_blocks_a_job() {
    let system = System::with_config(FAL).await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    // All jobs need one model, and its runner is busy: the other one loads it as well.
    system.succeeded(system.submit("hot", 10).await).await;
    system.all_idle(TIMED).await;
    let busy = system.submit("hot", 2000).await;
    let running = system.reached(busy, JobState::Running).await;
    let second = system.succeeded(system.submit("hot", 10).await).await;
    assert_ne!(second.runner, running.runner);
    assert_eq!(system.job(busy).await.state, JobState::Running);
    system.cleanup().await;
}

#[tokio::test]
async fn a_low_job_waits_until_no_normal_one_does() {
    let system = System::with_config(FAL).await;
    let _worker = system.timed_worker("a").await;
    let busy = system.submit("m", 1000).await;
    system.reached(busy, JobState::Running).await;
    let mut normal = vec![system.submit("m", 200).await, system.submit("m", 200).await];
    system.reached(normal[1], JobState::Dispatched).await;
    let headers = [("x-fal-queue-priority", "low"), ("x-fal-runner-hint", "m")];
    let answer = system.post(TIMED, &headers, r#"{"run_ms": 1}"#).await;
    let low = answer.job_id();
    normal.push(system.submit("m", 200).await);
    let low = system.succeeded(low).await;
    for id in normal {
        let normal = system.succeeded(id).await;
        assert!(
            normal.started_ms < low.started_ms,
            "a low job overtook a normal one"
        );
    }
    system.cleanup().await;
}
