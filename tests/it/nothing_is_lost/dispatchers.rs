//! Routers die or hang with jobs in their hands.

use std::time::Duration;

use serde_json::json;
use warmq_testkit::{Proxy, eventually};
use warmq_tests::amqp::next_end;
use warmq_tests::stage::{SOON, TIMED};
use warmq_tests::{AmqpUser, Stage};
use warmq_types::state::JobState;

/// A leader's lease (5 s), three heartbeats of the broker (15 s), and some air.
const AFTER_A_HANG: Duration = Duration::from_secs(60);

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
async fn what_a_dead_dispatcher_held_is_dispatched_by_the_next_one_in_order() {
    let mut stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let jobs = stage.held_jobs().await;
    let standby = stage.cluster.router(&[]).await.unwrap();
    stage.router.kill9().await.unwrap();
    stage.router = standby;
    let mut last_ms = 0;
    for id in jobs {
        let job = stage.succeeded(id).await;
        assert_eq!(job.attempt, 1);
        let started_ms = job.started_ms.unwrap();
        assert!(started_ms > last_ms, "{id} overtook the one before it");
        last_ms = started_ms;
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn the_copy_that_a_dispatcher_did_not_live_to_acknowledge_does_not_run() {
    let mut stage = Stage::start().await;
    let proxy = Proxy::of(stage.cluster.amqp_url()).await.unwrap();
    let url = proxy.url();
    stage.replace_router(&["--amqp-url", url.expose()]).await;
    let user = AmqpUser::connect(&stage.cluster).await;
    let mut ends = user.ends().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    // Once a job ran, the dispatcher reads the backlog.
    stage.succeeded(stage.submit("m", 1).await).await;
    // It still publishes, on another connection.
    proxy.mute("warmq-router dispatch");
    let ended = stage.submit("m", 1).await;
    stage.succeeded(ended).await;
    let running = stage.submit("n", 6_000).await;
    stage.reached(running, JobState::Running).await;
    stage.router.kill9().await.unwrap();
    stage.router = stage.cluster.router(&[]).await.unwrap();

    // Told by its runner, and again by the next dispatcher, which found its copy.
    let mut times_told = 0;
    while times_told < 2 {
        let (id, state) = next_end(&mut ends).await;
        assert_eq!(state, JobState::Succeeded);
        times_told += u32::from(id == ended);
    }
    for id in [ended, running] {
        assert_eq!(stage.succeeded(id).await.attempt, 1);
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn a_dispatcher_that_hangs_is_replaced_and_follows_when_it_wakes() {
    let mut stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let jobs = stage.held_jobs().await;
    let standby = stage.cluster.router(&[]).await.unwrap();
    stage.router.freeze().unwrap();
    let hung = std::mem::replace(&mut stage.router, standby);
    for id in jobs {
        let job = stage.ended_within(id, AFTER_A_HANG).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    }
    hung.resume().unwrap();
    let mut standby = std::mem::replace(&mut stage.router, hung);
    eventually("it follows", SOON, async || {
        (!stage.leads().await).then_some(())
    })
    .await
    .unwrap();
    // And leads again when it has to.
    standby.kill9().await.unwrap();
    assert_eq!(stage.succeeded(stage.submit("m", 1).await).await.attempt, 1);
    stage.clean_up().await;
}

#[tokio::test]
async fn without_any_dispatcher_jobs_are_accepted_and_wait_and_the_next_one_knows_the_fleet() {
    let mut stage = Stage::start().await;
    stage.replace_router(&["--roles", "api,reply"]).await;
    let dispatcher = async || {
        let started = stage.cluster.router(&["--roles", "dispatch"]).await;
        started.unwrap()
    };
    let mut first = dispatcher().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    // Loading is dear, so that a runner is worth waiting for that has the model.
    let models = ["m", "n"];
    let submit = async |n: usize, run_ms: u64| {
        let input = json!({"run_ms": run_ms, "load_ms": 1000});
        stage.submit_to(TIMED, models[n % 2], input).await
    };
    let mut runners = Vec::new();
    for id in [submit(0, 10).await, submit(1, 10).await] {
        runners.push(stage.succeeded(id).await.runner);
    }
    assert_ne!(runners[0], runners[1]);
    first.kill9().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..6 {
        jobs.push(submit(n, 10).await);
    }
    for id in &jobs {
        assert_eq!(stage.job(*id).await.state, JobState::Queued);
    }
    let _second = dispatcher().await;
    for (n, id) in jobs.into_iter().enumerate() {
        let job = stage.succeeded(id).await;
        assert_eq!((job.attempt, job.timings.unwrap().warm), (1, true));
        assert_eq!(job.runner, runners[n % 2]);
    }
    stage.clean_up().await;
}
