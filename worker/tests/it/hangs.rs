//! Engines that hang.

use std::time::{Duration, Instant};

use serde_json::json;
use warmq_types::job::Priority;
use warmq_types::state::JobState;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_engine_hangs_goes_elsewhere_and_the_process_ends() {
    let world = World::new().await;
    let mut config = world.config("a");
    config.hang_grace = Duration::from_millis(500);
    let worker = world.worker_with(Default::default(), config).await;
    let topology = world.testbed.topology();
    let backlog = topology.lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;
    let mut job = world.spec("", json!({"hang_ms": 600_000}));
    job.run_timeout_ms = Some(300);
    world.testbed.store().jobs().create(&job).await.unwrap();
    world.publish_shared(&job).await;
    let message = backlog.job_message().await;
    assert_eq!((message.job.id, message.avoid[0].as_str()), (job.id, "a"));
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Queued, 1));
    let error = worker.ended().await.unwrap_err();
    assert_eq!(error.exit_code(), 70, "{error}");
    assert!(error.to_string().contains("hang: "), "{error}");
    assert!(world.runner("a").await.is_none());
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_reports_progress_after_cancellation_does_not_hang() {
    let world = World::new().await;
    let mut config = world.config("a");
    config.hang_grace = Duration::from_secs(5);
    let worker = world.worker_with(Default::default(), config).await;
    let job = world.share("", json!({"hang_ms": 2_000})).await;
    world.reached(&job, JobState::Running).await;
    world
        .testbed
        .store()
        .cancellation()
        .cancel(&world.app, job.id)
        .await
        .unwrap();
    world.idle("a").await;
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Cancelled);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_on_time_though_the_engine_hangs() {
    let world = World::new().await;
    let mut config = world.config("a");
    config.drain_timeout = Duration::from_millis(300);
    let worker = world.worker_with(Default::default(), config).await;
    let job = world.share("", json!({"hang_ms": 600_000})).await;
    world.reached(&job, JobState::Running).await;
    let since = Instant::now();
    worker.stop().await;
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Queued, 0));
    world.end([]).await;
}
