//! Redis dies under running and waiting jobs: they run on and are run all the same, and their ends are stored when it is
//! back.

use std::time::Duration;

use serde_json::json;
use warmq_broker::Topology;
use warmq_testkit::{Cluster, PrivateRabbit, PrivateRedis};
use warmq_tests::Stage;
use warmq_tests::amqp::{AmqpUser, next_end};
use warmq_tests::stage::{SOON, TIMED};
use warmq_types::ids::AppId;
use warmq_types::state::JobState;

#[tokio::test]
async fn waiting_jobs_go_through_the_shared_queue_and_every_job_runs_once() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let cluster = Cluster::builder().redis_url(redis.url().expose());
    let stage = Stage::of(cluster.start().await.unwrap()).await;
    // It keeps all that it is told.
    assert_eq!(stage.get("/readyz").await.body["warnings"], json!([]));
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let mut jobs = Vec::new();
    for n in 0..6 {
        jobs.push(stage.submit(["x", "y"][n % 2], 1500).await);
    }
    for id in &jobs[..2] {
        stage.reached(*id, JobState::Running).await;
    }
    redis.kill9().await.unwrap();

    // Held jobs leave the dispatcher's hands; each worker takes one, and begins it without a lease.
    let app = AppId::parse(TIMED).unwrap();
    let shared = stage.cluster.topology().shared_queue(&app);
    let channel = stage.cluster.publisher().channel().await.unwrap();
    stage
        .until("jobs wait for whoever is free first", SOON, async || {
            let depth = Topology::depth(&channel, &shared).await.unwrap();
            (depth > 0).then_some(())
        })
        .await;
    // Six ends, of which none could be stored: the runners go on all the same.
    let late = stage.cluster.topology().deferred_results_queue();
    stage
        .until("all jobs have ended without Redis", SOON, async || {
            let depth = Topology::depth(&channel, &late).await.unwrap();
            (depth == 6).then_some(())
        })
        .await;

    redis.restart().await.unwrap();
    stage
        .until("Redis answers again", SOON, async || {
            stage.cluster.store().ping().await.ok()
        })
        .await;
    for id in jobs {
        let job = stage.ended_within(id, Duration::from_secs(60)).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    }
    let id = stage.submit_after_outage("x", 1).await;
    stage.succeeded(id).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn an_end_that_the_broker_never_takes_fails_its_job_once() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let rabbit = PrivateRabbit::start(&["max_message_size = 50000"])
        .await
        .unwrap();
    let cluster = Cluster::builder()
        .redis_url(redis.url().expose())
        .amqp_url(rabbit.url().expose());
    let stage = Stage::of(cluster.start().await.unwrap()).await;
    let _worker = stage.timed("a").await;
    let broker = AmqpUser::connect(&stage.cluster).await;
    let mut ends = broker.ends().await;
    // Its message fits, and so does its output, but not both.
    let input = json!({"run_ms": 1500, "output": {"text": "x".repeat(30_000)}});
    let id = stage.submit_to(TIMED, "x", input).await;
    stage.reached(id, JobState::Running).await;
    redis.kill9().await.unwrap();
    let late = stage.cluster.topology().deferred_results_queue();
    let channel = stage.cluster.publisher().channel().await.unwrap();
    stage
        .until("the job has ended without Redis", SOON, async || {
            let depth = Topology::depth(&channel, &late).await.unwrap();
            (depth == 1).then_some(())
        })
        .await;
    redis.restart().await.unwrap();
    stage
        .until("Redis answers again", SOON, async || {
            stage.cluster.store().ping().await.ok()
        })
        .await;
    let job = stage.ended_within(id, Duration::from_secs(60)).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.status), (JobState::Failed, 413));
    assert!(error.message.contains("50000"), "{}", error.message);
    let next = stage.submit_after_outage("x", 1).await;
    stage.succeeded(next).await;
    assert_eq!(next_end(&mut ends).await, (id, JobState::Failed));
    assert_eq!(next_end(&mut ends).await, (next, JobState::Succeeded));
    stage.clean_up().await;
}
