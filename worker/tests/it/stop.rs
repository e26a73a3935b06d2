//! How a worker stops, with and without a signal.

use std::time::{Duration, Instant};

use warmq_broker::Topology;
use warmq_testkit::WorkerOptions;
use warmq_types::job::Priority;
use warmq_types::state::JobState;

use crate::harness::{APP, TIMEOUT, World, takes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_stops_at_once_and_leaves_nothing() {
    let world = World::new().await;
    let mut worker = world
        .testbed
        .worker(WorkerOptions::timed("a", APP))
        .await
        .unwrap();
    let runner = world.runner("a").await.unwrap();
    let begun = Instant::now();
    worker.terminate().unwrap();
    assert!(
        worker.wait(TIMEOUT).await.unwrap().success(),
        "{}",
        worker.log_tail()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(world.runner("a").await.is_none());
    let queue = world
        .testbed
        .topology()
        .runner_queue(&runner.id, runner.epoch);
    let connection = warmq_broker::connect(world.testbed.amqp_url(), "probe");
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    assert!(Topology::depth(&channel, &queue).await.is_err());
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_worker_finishes_its_job_and_takes_no_other() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world.share("", takes(1_000)).await;
    world.reached(&job, JobState::Running).await;
    let next = world.share("", takes(1)).await;
    worker.stop().await;
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Succeeded);
    assert_eq!(world.record(&next).await.unwrap().state, JobState::Queued);
    assert!(world.runner("a").await.is_none());
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_sent_to_a_worker_that_stops_is_back_at_once() {
    let world = World::new().await;
    let mut config = world.config("a");
    // The broker would return it only after this.
    config.accept_timeout = Duration::from_secs(60);
    let worker = world.worker_with(Default::default(), config).await;
    let runner = world.runner("a").await.unwrap();
    let running = world.share("", takes(3_000)).await;
    world.reached(&running, JobState::Running).await;
    worker.request_stop();
    let topology = world.testbed.topology();
    let sent = world.spec("", takes(1));
    world
        .publish("", &topology.runner_queue(&runner.id, runner.epoch), &sent)
        .await;
    let backlog = topology.lane_queue(&world.app, Priority::Normal);
    assert_eq!(world.listen(&backlog).await.job().await, sent);
    let state = world.record(&running).await.unwrap().state;
    assert_eq!(state, JobState::Running, "the worker still drains");
    worker.stopped().await;
    let record = world.record(&running).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Succeeded, 1));
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_outlives_the_drain_is_queued_again_without_costing_an_attempt() {
    let world = World::new().await;
    let mut config = world.config("a");
    config.drain_timeout = Duration::from_millis(300);
    let worker = world.worker_with(Default::default(), config).await;
    let job = world.share("", takes(600_000)).await;
    world.reached(&job, JobState::Running).await;
    worker.stop().await;
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Queued, 0));
    let backlog = world
        .testbed
        .topology()
        .lane_queue(&world.app, Priority::Normal);
    assert_eq!(world.listen(&backlog).await.job().await, job);
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_requeues_the_running_job_at_once_and_hangups_are_ignored() {
    let world = World::new().await;
    let options = WorkerOptions::timed("a", APP).args(["--drain-timeout-s=600"]);
    let mut worker = world.testbed.worker(options).await.unwrap();
    let job = world.share("", takes(600_000)).await;
    world.reached(&job, JobState::Running).await;
    worker.hang_up().unwrap();
    world
        .until("the hangup is logged", async || {
            worker
                .log_tail()
                .contains("restart it to change them")
                .then_some(())
        })
        .await;
    worker.terminate().unwrap();
    world
        .until("the worker drains", async || {
            worker.log_tail().contains("asked to stop").then_some(())
        })
        .await;
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Running);
    worker.terminate().unwrap();
    let status = worker.wait(TIMEOUT).await.unwrap();
    assert!(status.success(), "{}", worker.log_tail());
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Queued, 0));
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_a_killed_worker_runs_again_once_its_lease_lapsed() {
    let world = World::new().await;
    let mut killed = world
        .testbed
        .worker(WorkerOptions::timed("a", APP))
        .await
        .unwrap();
    let job = world.share("", takes(2_000)).await;
    world.reached(&job, JobState::Running).await;
    let other = world.worker("b").await;
    killed.kill9().await.unwrap();
    // The other runner receives the message at once, finds the lease, and publishes a copy to a
    // retry tier until the lease has lapsed.
    let backlog = world
        .testbed
        .topology()
        .lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;
    let redispatch = async {
        loop {
            world.publish_shared(&backlog.job_whenever().await).await;
        }
    };
    let record = tokio::select! {
        record = world.reached(&job, JobState::Succeeded) => record,
        () = redispatch => unreachable!("it never ends"),
    };
    assert_eq!((record.attempt, record.runner.unwrap().as_str()), (2, "b"));
    world.end([other]).await;
}
