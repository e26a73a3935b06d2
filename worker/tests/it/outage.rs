//! Outages of a server: no job and no result is lost.

use std::time::Duration;

use warmq_testkit::Proxy;
use warmq_types::job::Priority;
use warmq_types::state::JobState;

use crate::harness::{World, takes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_runner_joins_again_after_an_outage_of_rabbitmq() {
    let world = World::new().await;
    let proxy = Proxy::of(world.testbed.amqp_url()).await.unwrap();
    let mut config = world.config("a");
    config.servers.amqp_url = proxy.url();
    let worker = world.worker_with(Default::default(), config).await;
    let first = world.runner("a").await.unwrap();
    proxy.shut();
    world
        .until("it took leave", async || {
            world.runner("a").await.is_none().then_some(())
        })
        .await;
    proxy.reopen();
    let second = world
        .until("it is back", async || world.runner("a").await)
        .await;
    assert!(second.epoch > first.epoch);
    for job in [
        world.send_to("a", "", takes(1)).await,
        world.share("", takes(1)).await,
    ] {
        world.reached(&job, JobState::Succeeded).await;
    }
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_during_an_outage_of_rabbitmq_is_stored_and_announced_later() {
    let world = World::new().await;
    let proxy = Proxy::of(world.testbed.amqp_url()).await.unwrap();
    let mut config = world.config("a");
    config.servers.amqp_url = proxy.url();
    let worker = world.worker_with(Default::default(), config).await;
    let mut events = world.events().await;
    let job = world.share("", takes(1_000)).await;
    world.reached(&job, JobState::Running).await;
    proxy.shut();
    let record = world.reached(&job, JobState::Succeeded).await;
    assert_eq!(record.attempt, 1);
    proxy.reopen();
    assert_eq!(events.event().await, (job.id, JobState::Succeeded));
    let next = world.share("", takes(1)).await;
    world.reached(&next, JobState::Succeeded).await;
    assert_eq!(world.record(&job).await.unwrap().attempt, 1);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_redis_cannot_store_is_deferred_to_rabbitmq() {
    let world = World::new().await;
    let proxy = Proxy::of(world.testbed.redis_url()).await.unwrap();
    let mut config = world.config("a");
    config.servers.redis_url = proxy.url();
    let worker = world.worker_with(Default::default(), config).await;
    let job = world.share("m", takes(1_000)).await;
    // The record is `running` before the worker receives the answer; its first report follows.
    world
        .until("the worker runs it", async || {
            world.record(&job).await?.progress
        })
        .await;
    proxy.shut();
    let late = world.testbed.topology().deferred_results_queue();
    let end = world.listen(&late).await.deferred_result().await;
    assert_eq!(
        (end.job.id, end.lease.map(|lease| lease.attempt)),
        (job.id, Some(1))
    );
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Running);
    // Like the router.
    assert!(
        world
            .testbed
            .store()
            .outage_attempts()
            .end(&end, 0)
            .await
            .unwrap()
    );
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Succeeded, 1));
    proxy.reopen();
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_without_redis_returns_its_job() {
    let world = World::new().await;
    let proxy = Proxy::of(world.testbed.redis_url()).await.unwrap();
    let mut config = world.config("a");
    config.servers.redis_url = proxy.url();
    config.drain_timeout = Duration::from_secs(1);
    let worker = world.worker_with(Default::default(), config).await;
    let job = world.send_to("a", "", takes(500)).await;
    world.reached(&job, JobState::Running).await;
    proxy.shut();
    worker.stop().await;
    // From the own queue: to the dispatcher.
    let backlog = world
        .testbed
        .topology()
        .lane_queue(&world.app, Priority::Normal);
    assert_eq!(world.listen(&backlog).await.job().await, job);
    world.end([]).await;
}
