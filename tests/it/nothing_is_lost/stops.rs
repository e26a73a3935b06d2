//! Workers and routers are stopped, as in an upgrade, without an effect on clients.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmq_testkit::{WorkerOptions, eventually};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::state::JobState;

/// Less than a leader's lease (5 s): a new leader within this time did not wait for the lease.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_stopped_worker_requeues_its_job() {
    let system = System::start().await;
    let options = WorkerOptions::timed("leaving", TIMED).args(["--drain-timeout-s", "0"]);
    let mut leaving = system.worker(options).await;
    let id = system.submit("m", 8000).await;
    system.reached(id, JobState::Running).await;
    let _staying = system.timed_worker("staying").await;
    let status = leaving.stop(TIMEOUT).await.unwrap();
    assert!(status.success(), "{status}");
    let job = system.succeeded(id).await;
    assert_eq!(job.runner.unwrap().as_str(), "staying");
    assert_eq!(job.attempt, 1, "being given back costs no attempt");
    system.cleanup().await;
}

#[tokio::test]
async fn a_stopped_worker_finishes_its_job_within_the_drain_timeout() {
    let system = System::start().await;
    let mut leaving = system.timed_worker("leaving").await;
    let id = system.submit("m", 1000).await;
    let running = system.reached(id, JobState::Running).await;
    assert!(leaving.stop(TIMEOUT).await.unwrap().success());
    let job = system.job(id).await;
    assert_eq!(
        (job.state, job.runner),
        (JobState::Succeeded, running.runner)
    );
    assert!(system.runners(TIMED).await.is_empty(), "it left");
    system.cleanup().await;
}

#[tokio::test]
async fn a_stopped_router_releases_its_jobs_at_once_and_finishes_its_responses() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let jobs = system.hold_jobs().await;
    let next = system.testbed.router(&[]).await.unwrap();
    // An upload in progress, which the router waits for.
    let input = r#"{"run_ms": 1}"#;
    let (begin, rest) = input.split_at(5);
    let address = system.router.url().strip_prefix("http://").unwrap();
    let mut upload = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{begin}",
        input.len()
    );
    upload.write_all(head.as_bytes()).await.unwrap();

    system.router.terminate().unwrap();
    let mut stopping = std::mem::replace(&mut system.router, next);
    eventually("the next router leads", AT_ONCE, async || {
        system.is_leader().await.then_some(())
    })
    .await
    .unwrap();
    for id in jobs {
        assert_eq!(system.succeeded(id).await.attempt, 1);
    }
    assert!(stopping.ended().is_none(), "it waits for the upload");

    upload.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").last().unwrap()).unwrap();
    let id = body["request_id"].as_str().unwrap().parse().unwrap();
    system.succeeded(id).await;
    assert!(stopping.wait(TIMEOUT).await.unwrap().success());
    system.cleanup().await;
}

#[tokio::test]
async fn a_stopped_router_closes_idle_connections_after_the_drain_timeout() {
    let mut system = System::start().await;
    system.replace_router(&["--drain-timeout-s", "1"]).await;
    let address = system.router.url().strip_prefix("http://").unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 9\r\n\r\n{{");
    silent.write_all(head.as_bytes()).await.unwrap();
    let status = system.router.stop(Duration::from_secs(10)).await.unwrap();
    assert!(status.success(), "{status}");
    system.cleanup().await;
}
