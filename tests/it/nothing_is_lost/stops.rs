//! Workers and routers are asked to stop, as in every update. Nobody notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmq_testkit::{WorkerOptions, eventually};
use warmq_tests::Stage;
use warmq_tests::stage::{SOON, TIMED};
use warmq_types::state::JobState;

/// Less than a leader's lease (5 s): who leads within this time did not wait for it to lapse.
const AT_ONCE: Duration = Duration::from_secs(3);

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
async fn a_router_that_is_stopped_hands_its_jobs_over_at_once_and_finishes_its_answers() {
    let mut stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let jobs = stage.held_jobs().await;
    let next = stage.cluster.router(&[]).await.unwrap();
    // An upload under way, for which the router has to wait.
    let input = r#"{"run_ms": 1}"#;
    let (begin, rest) = input.split_at(5);
    let address = stage.router.url().strip_prefix("http://").unwrap();
    let mut upload = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{begin}",
        input.len()
    );
    upload.write_all(head.as_bytes()).await.unwrap();

    stage.router.terminate().unwrap();
    let mut stopping = std::mem::replace(&mut stage.router, next);
    eventually("the next router leads", AT_ONCE, async || {
        stage.leads().await.then_some(())
    })
    .await
    .unwrap();
    for id in jobs {
        assert_eq!(stage.succeeded(id).await.attempt, 1);
    }
    assert!(stopping.ended().is_none(), "it waits for the upload");

    upload.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").last().unwrap()).unwrap();
    let id = body["request_id"].as_str().unwrap().parse().unwrap();
    stage.succeeded(id).await;
    assert!(stopping.wait(SOON).await.unwrap().success());
    stage.clean_up().await;
}

#[tokio::test]
async fn a_router_that_is_stopped_waits_for_a_silent_client_no_longer_than_it_is_told() {
    let mut stage = Stage::start().await;
    stage.replace_router(&["--drain-timeout-s", "1"]).await;
    let address = stage.router.url().strip_prefix("http://").unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 9\r\n\r\n{{");
    silent.write_all(head.as_bytes()).await.unwrap();
    stage.router.terminate().unwrap();
    let status = stage.router.wait(Duration::from_secs(10)).await.unwrap();
    assert!(status.success(), "{status}");
    stage.clean_up().await;
}
