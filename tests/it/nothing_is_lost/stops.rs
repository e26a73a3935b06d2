//! Workers and routers are asked to stop, as in every update. Nobody notices.

use warmq_cluster::WorkerOptions;
use warmq_common::state::JobState;
use warmq_tests::Stage;
use warmq_tests::stage::{SOON, TIMED};

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
