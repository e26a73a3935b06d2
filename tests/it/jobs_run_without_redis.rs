//! Redis dies under running and waiting jobs: they run, and their results are stored once it is
//! back.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use serde_json::json;
use warmq_testkit::{PrivateRabbit, PrivateRedis, Testbed};
use warmq_tests::System;
use warmq_tests::amqp::{AmqpClient, next_end_event};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::AppId;
use warmq_types::state::JobState;

#[tokio::test]
async fn waiting_jobs_go_through_the_shared_queue_and_every_job_runs_once() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    // RabbitMQ keeps all messages.
    assert_eq!(system.get("/readyz").await.body["warnings"], json!([]));
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let mut jobs = Vec::new();
    for n in 0..6 {
        jobs.push(system.submit(["x", "y"][n % 2], 1500).await);
    }
    for id in &jobs[..2] {
        system.reached(*id, JobState::Running).await;
    }
    redis.kill9().await.unwrap();

    // The dispatcher releases held jobs; each worker takes one and starts it without a lease.
    let app = AppId::parse(TIMED).unwrap();
    let shared = system.testbed.topology().shared_queue(&app);
    system.until_depth(&shared, 1).await;
    // Six results, none of which could be stored: the runners continue.
    let late = system.testbed.topology().deferred_results_queue();
    system.until_depth(&late, 6).await;

    redis.restart().await.unwrap();
    system
        .until("Redis answers again", TIMEOUT, async || {
            system.testbed.store().ping().await.ok()
        })
        .await;
    for id in jobs {
        let job = system.ended_within(id, Duration::from_secs(60)).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    }
    let id = system.submit_after_outage("x", 1).await;
    system.succeeded(id).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_result_that_the_broker_refuses_fails_its_job_once() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let rabbit = PrivateRabbit::start(&["max_message_size = 50000"])
        .await
        .unwrap();
    let testbed = Testbed::builder()
        .redis_url(redis.url().expose())
        .amqp_url(rabbit.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    let _worker = system.timed_worker("a").await;
    let broker = AmqpClient::connect(&system.testbed).await;
    let mut ends = broker.end_events().await;
    // Its message fits, and so does its output, but not both.
    let input = json!({"run_ms": 1500, "output": {"text": "x".repeat(30_000)}});
    let id = system.submit_to(TIMED, "x", input).await;
    system.reached(id, JobState::Running).await;
    redis.kill9().await.unwrap();
    let late = system.testbed.topology().deferred_results_queue();
    system.until_depth(&late, 1).await;
    redis.restart().await.unwrap();
    system
        .until("Redis answers again", TIMEOUT, async || {
            system.testbed.store().ping().await.ok()
        })
        .await;
    let job = system.ended_within(id, Duration::from_secs(60)).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.status), (JobState::Failed, 413));
    assert!(error.message.contains("50000"), "{}", error.message);
    let next = system.submit_after_outage("x", 1).await;
    system.succeeded(next).await;
    assert_eq!(next_end_event(&mut ends).await, (id, JobState::Failed));
    assert!(ends.next().now_or_never().is_none(), "one event");
    system.cleanup().await;
}
