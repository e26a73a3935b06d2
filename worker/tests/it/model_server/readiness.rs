//! A runner takes jobs only while its server is ready.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use warmq_types::state::JobState;

use super::stub::Stub;
use super::{Scene, config, respond, running};
use crate::harness::World;

/// The bound of docs/runner-protocol.md, and what a busy machine adds.
const LEAVES_WITHIN: Duration = Duration::from_millis(2000 + 1000);

/// Waits until the runner is faulty, and checks the bound and the reason.
async fn leaves(scene: &Scene, since: Instant, reason: &str) {
    let fault = scene.world.faulty("a").await.fault.unwrap();
    assert!(since.elapsed() < LEAVES_WITHIN, "{:?}", since.elapsed());
    assert!(
        fault.starts_with("server: ") && fault.contains(reason),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_leaves_the_idle_set_and_its_runner_returns_by_itself() {
    let mut scene = Scene::new().await;
    let placeholder = Stub::start().await;
    let (address, behaviour) = std::mem::replace(&mut scene.stub, placeholder).kill().await;
    leaves(&scene, Instant::now(), "cannot be reached").await;
    let job = scene.world.share("", json!({})).await;
    scene.stub = Stub::start_at(address, behaviour).await;
    let record = scene.world.reached(&job, JobState::Succeeded).await;
    assert_eq!(record.attempt, 1, "the job waited");
    assert_eq!(scene.world.idle("a").await.fault, None);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_or_unready_server_leaves_the_idle_set_and_returns() {
    let scene = Scene::new().await;
    let server = &scene.stub.behaviour;
    server.hangs.store(true, Ordering::SeqCst);
    leaves(&scene, Instant::now(), "did not respond within 1 s").await;
    server.hangs.store(false, Ordering::SeqCst);
    scene.world.idle("a").await;
    server.health.store(503, Ordering::SeqCst);
    leaves(&scene, Instant::now(), "responds 503 at /health").await;
    server.health.store(404, Ordering::SeqCst);
    scene.world.idle("a").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_start_before_its_server_and_asks_it_for_its_hints() {
    let world = World::new().await;
    let stub = Stub::start().await;
    stub.behaviour.health.store(503, Ordering::SeqCst);
    *stub.behaviour.hints.lock().unwrap() = Some(json!(["a", "b"]).to_string());
    let worker = world.worker_that_may_fail(Default::default(), config(&world, running(&stub)));
    let fault = world.faulty("a").await.fault.unwrap();
    assert!(fault.contains("responds 503 at /health"), "{fault}");
    stub.behaviour.health.store(200, Ordering::SeqCst);
    let runner = world.idle("a").await;
    let hints: Vec<String> = runner.hints.into_iter().map(String::from).collect();
    assert_eq!(hints, ["a", "b"]);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_speak_http_is_named_in_the_fault() {
    let world = World::new().await;
    let redis = "http://127.0.0.1:6379".parse().unwrap();
    let target = warmq_worker::engine::http::options::Target::Running(redis);
    let worker = world.worker_that_may_fail(Default::default(), config(&world, target));
    let fault = world.faulty("a").await.fault.unwrap();
    assert!(fault.contains("broke the connection"), "{fault}");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_to_be_stopped_takes_no_jobs_until_it_was_restarted() {
    let mut scene = Scene::new().await;
    scene
        .output(
            "",
            respond(200, json!({}), json!({"x-fal-stop-runner": "1"})),
        )
        .await;
    leaves(&scene, Instant::now(), "asked to be stopped").await;
    let job = scene.world.share("", json!({})).await;
    // It still answers its probes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        scene.world.record(&job).await.unwrap().state,
        JobState::Queued
    );
    let placeholder = Stub::start().await;
    let (address, behaviour) = std::mem::replace(&mut scene.stub, placeholder).kill().await;
    scene
        .world
        .until("a probe finds it dead", async || {
            let fault = scene.world.runner("a").await?.fault?;
            fault.contains("cannot be reached").then_some(())
        })
        .await;
    scene.stub = Stub::start_at(address, behaviour).await;
    scene.world.reached(&job, JobState::Succeeded).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_runners_of_one_server_run_jobs_at_a_time_and_share_its_hints() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let mut config = config(&world, running(&stub));
    config.runners = ["a-0", "a-1", "a-2"]
        .map(|name| name.parse().unwrap())
        .into();
    let worker = world.worker_with(Default::default(), config).await;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(world.share("", json!({"sleep_ms": 300})).await);
    }
    for job in &jobs {
        world.reached(job, JobState::Succeeded).await;
    }
    assert_eq!(stub.behaviour.most_running.load(Ordering::SeqCst), 3);
    let job = world.send_to("a-1", "m", json!({})).await;
    world.reached(&job, JobState::Succeeded).await;
    for name in ["a-0", "a-1", "a-2"] {
        world
            .until("every runner reports the hint", async || {
                let hints = world.runner(name).await?.hints;
                (hints.len() == 1 && hints[0].as_str() == "m").then_some(())
            })
            .await;
    }
    world.end([worker]).await;
}
