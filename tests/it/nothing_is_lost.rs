//! Processes die; every accepted job ends all the same, once.

use std::time::Duration;

use warmq_cluster::{WorkerOptions, eventually};
use warmq_common::ids::JobId;
use warmq_common::state::JobState;
use warmq_tests::Stage;
use warmq_tests::stage::{SOON, TIMED};

/// A runner's lease (15 s), the retry tier that parks its job (5 s or 30 s), and some air.
const AFTER_A_CRASH: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_job_loses_nothing() {
    let stage = Stage::start().await;
    let mut victim = stage.timed("victim").await;
    let first = stage.submit("m", 3000).await;
    stage.reached(first, JobState::Running).await;
    let _survivor = stage.timed("survivor").await;
    let mut jobs = vec![first];
    for n in 0..20 {
        jobs.push(stage.submit(if n % 2 == 0 { "m" } else { "n" }, 20).await);
    }
    victim.kill9().await.unwrap();
    for id in jobs {
        let job = stage.ended_within(id, AFTER_A_CRASH).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    }
    let job = stage.job(first).await;
    assert_eq!(job.runner.unwrap().as_str(), "survivor");
    assert_eq!(job.attempt, 2);
    // The dead runner's hints are gone with its lease.
    eventually("the dead runner was reaped", SOON, async || {
        (stage.runners(TIMED).await.len() == 1).then_some(())
    })
    .await
    .unwrap();
    stage.clean_up().await;
}

#[tokio::test]
async fn a_router_killed_under_load_loses_nothing() {
    let mut stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let mut jobs = Vec::new();
    for n in 0..40 {
        jobs.push(stage.submit(["x", "y", "z"][n % 3], 20).await);
    }
    stage.router.kill9().await.unwrap();
    stage.router = stage.cluster.router(&[]).await.unwrap();
    jobs.push(stage.submit("x", 20).await);
    for id in jobs {
        assert_eq!(stage.succeeded(id).await.attempt, 1);
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn a_second_router_takes_over_from_a_dead_one() {
    let mut stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    stage.succeeded(stage.submit("m", 1).await).await;
    let second = stage.cluster.router(&[]).await.unwrap();
    stage.router.kill9().await.unwrap();
    stage.router = second;
    let id = stage.submit("m", 1).await;
    stage.succeeded(id).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_gives_its_job_back() {
    let stage = Stage::start().await;
    let options = WorkerOptions::timed("leaving", TIMED).args(["--drain-timeout-s", "0"]);
    let mut leaving = stage.worker(options).await;
    let id = stage.submit("m", 8000).await;
    stage.reached(id, JobState::Running).await;
    let _staying = stage.timed("staying").await;
    leaving.terminate().unwrap();
    let status = leaving.wait(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    let job = stage.succeeded(id).await;
    assert_eq!(job.runner.unwrap().as_str(), "staying");
    assert_eq!(job.attempt, 1, "being given back costs no attempt");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_its_job_when_there_is_time() {
    let stage = Stage::start().await;
    let mut leaving = stage.timed("leaving").await;
    let id = stage.submit("m", 1000).await;
    let running = stage.reached(id, JobState::Running).await;
    leaving.terminate().unwrap();
    assert!(leaving.wait(SOON).await.unwrap().success());
    let job = stage.job(id).await;
    assert_eq!(
        (job.state, job.runner),
        (JobState::Succeeded, running.runner)
    );
    assert!(stage.runners(TIMED).await.is_empty(), "it said goodbye");
    stage.clean_up().await;
}

#[tokio::test]
async fn jobs_wait_for_their_first_worker() {
    let stage = Stage::with_config("[apps.'bench/timed']").await;
    let jobs: [JobId; 3] = [
        stage.submit("a", 1).await,
        stage.submit("b", 1).await,
        stage.submit("c", 1).await,
    ];
    let _worker = stage.timed("late").await;
    for id in jobs {
        stage.succeeded(id).await;
    }
    stage.clean_up().await;
}
