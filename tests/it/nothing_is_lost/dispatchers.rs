//! Routers die or hang while they hold jobs.

use std::time::Duration;

use serde_json::json;
use warmq_testkit::{Proxy, eventually};
use warmq_tests::amqp::next_end_event;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::state::JobState;

/// A leader's lease (5 s), three AMQP heartbeats (15 s), and a margin.
const AFTER_A_HANG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_router_killed_under_load_loses_nothing() {
    let mut system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let mut jobs = Vec::new();
    for n in 0..40 {
        jobs.push(system.submit(["x", "y", "z"][n % 3], 20).await);
    }
    system.router.kill9().await.unwrap();
    system.router = system.testbed.router(&[]).await.unwrap();
    jobs.push(system.submit("x", 20).await);
    for id in jobs {
        assert_eq!(system.succeeded(id).await.attempt, 1);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_second_router_takes_over_from_a_dead_one() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    let second = system.testbed.router(&[]).await.unwrap();
    system.router.kill9().await.unwrap();
    system.router = second;
    let id = system.submit("m", 1).await;
    system.succeeded(id).await;
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_held_by_a_dead_dispatcher_are_dispatched_by_the_next_one_in_order() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let jobs = system.hold_jobs().await;
    let standby = system.testbed.router(&[]).await.unwrap();
    system.router.kill9().await.unwrap();
    system.router = standby;
    let mut last_ms = 0;
    for id in jobs {
        let job = system.succeeded(id).await;
        assert_eq!(job.attempt, 1);
        let started_ms = job.started_ms.unwrap();
        assert!(started_ms > last_ms, "{id} overtook the one before it");
        last_ms = started_ms;
    }
    system.cleanup().await;
}

#[tokio::test]
async fn the_redelivered_copy_of_a_dispatched_job_does_not_run() {
    let mut system = System::start().await;
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    let url = proxy.url();
    system.replace_router(&["--amqp-url", url.expose()]).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut ends = user.end_events().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    // Once a job ran, the dispatcher consumes the backlog.
    system.succeeded(system.submit("m", 1).await).await;
    // It still publishes, on another connection.
    proxy.mute("warmq-router dispatch");
    let ended = system.submit("m", 1).await;
    system.succeeded(ended).await;
    let running = system.submit("n", 6_000).await;
    system.reached(running, JobState::Running).await;
    system.router.kill9().await.unwrap();
    system.router = system.testbed.router(&[]).await.unwrap();

    // Announced by the next dispatcher, which received its copy: its runner may have died before.
    assert_eq!(
        next_end_event(&mut ends).await,
        (ended, JobState::Succeeded)
    );
    for id in [ended, running] {
        assert_eq!(system.succeeded(id).await.attempt, 1);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_hung_dispatcher_is_replaced_and_follows_after_it_resumes() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let jobs = system.hold_jobs().await;
    let standby = system.testbed.router(&[]).await.unwrap();
    system.router.freeze().unwrap();
    let hung = std::mem::replace(&mut system.router, standby);
    for id in jobs {
        let job = system.ended_within(id, AFTER_A_HANG).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    }
    hung.resume().unwrap();
    let mut standby = std::mem::replace(&mut system.router, hung);
    eventually("it follows", TIMEOUT, async || {
        (!system.is_leader().await).then_some(())
    })
    .await
    .unwrap();
    // It leads again when necessary.
    standby.kill9().await.unwrap();
    assert_eq!(
        system.succeeded(system.submit("m", 1).await).await.attempt,
        1
    );
    system.cleanup().await;
}

#[tokio::test]
async fn without_a_dispatcher_jobs_wait_and_the_next_one_reads_the_fleet() {
    let mut system = System::start().await;
    system.replace_router(&["--roles", "api,reply"]).await;
    let dispatcher = async || {
        let started = system.testbed.router(&["--roles", "dispatch"]).await;
        started.unwrap()
    };
    let mut first = dispatcher().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    // Loading is slow, so that a warm runner is worth a hold.
    let models = ["m", "n"];
    let submit = async |n: usize, run_ms: u64| {
        let input = json!({"run_ms": run_ms, "load_ms": 1000});
        system.submit_to(TIMED, models[n % 2], input).await
    };
    let mut runners = Vec::new();
    for id in [submit(0, 10).await, submit(1, 10).await] {
        runners.push(system.succeeded(id).await.runner);
    }
    assert_ne!(runners[0], runners[1]);
    first.kill9().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..6 {
        jobs.push(submit(n, 10).await);
    }
    for id in &jobs {
        assert_eq!(system.job(*id).await.state, JobState::Queued);
    }
    let _second = dispatcher().await;
    for (n, id) in jobs.into_iter().enumerate() {
        let job = system.succeeded(id).await;
        assert_eq!((job.attempt, job.timings.unwrap().warm), (1, true));
        assert_eq!(job.runner, runners[n % 2]);
    }
    system.cleanup().await;
}
