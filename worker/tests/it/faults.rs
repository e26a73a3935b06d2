//! Faults of runners.

use serde_json::{Value, json};
use warmq_types::fault::FaultKind;
use warmq_types::job::Priority;
use warmq_types::state::JobState;
use warmq_worker::engine::EngineKind;

use crate::harness::{InProcess, World, takes};

/// A transparent pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

async fn upscaler(world: &World) -> InProcess {
    let mut config = world.config("a");
    config.engine.kind = EngineKind::Upscale;
    world.worker_with(Default::default(), config).await
}

fn picture() -> Value {
    json!({"image_url": PIXEL})
}

/// Replaces the storage's folder by a file, or restores the folder.
fn break_storage(world: &World, broken: bool) {
    let folder = world.testbed.folder().join("files");
    let kept = world.testbed.folder().join("files-kept");
    match broken {
        true => {
            std::fs::rename(&folder, &kept).unwrap();
            std::fs::write(&folder, "no folder").unwrap();
        }
        false => {
            std::fs::remove_file(&folder).unwrap();
            std::fs::rename(&kept, &folder).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_whose_storage_fails_requeues_its_job_and_takes_none_until_it_works() {
    let world = World::new().await;
    let worker = upscaler(&world).await;
    let stored = world.share("", picture()).await;
    let output = world.reached(&stored, JobState::Succeeded).await.output;
    let url = output.unwrap()["image"]["url"].to_string();
    assert!(url.contains(&format!("{}/1/image.png", stored.id)), "{url}");

    break_storage(&world, true);
    let topology = world.testbed.topology();
    let backlog = topology.lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;
    let job = world.share("", picture()).await;
    let message = backlog.job_message().await;
    assert_eq!(message.job.id, job.id);
    assert_eq!(message.avoid, [world.faulty("a").await.id]);
    assert_eq!(message.faults, [], "the fault is the runner's");
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Queued, 1));
    let log = world
        .testbed
        .store()
        .log()
        .all(&world.app, job.id)
        .await
        .unwrap();
    let is_logged = log
        .iter()
        .any(|line| line.message.contains("its runner failed (storage)"));
    assert!(is_logged, "{log:?}");

    // It takes no jobs.
    world.publish_shared(&job).await;
    let faulty = world.faulty("a").await;
    assert!(!faulty.idle && faulty.fault.unwrap().starts_with("storage: "));
    assert_eq!(world.record(&job).await.unwrap().attempt, 1);
    break_storage(&world, false);
    let record = world.reached(&job, JobState::Succeeded).await;
    assert_eq!(record.attempt, 2);
    assert_eq!(world.idle("a").await.fault, None);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_storage_fails_at_start_is_listed_with_the_reason_and_joins_once_it_works() {
    let world = World::new().await;
    let mut config = world.config("a");
    config.engine.kind = EngineKind::Upscale;
    // The app's folder cannot be created.
    let files = world.testbed.folder().join("files");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("test"), "no folder").unwrap();
    let worker = world.worker_that_may_fail(Default::default(), config);
    let faulty = world.faulty("a").await;
    assert!(!faulty.idle && faulty.fault.unwrap().starts_with("storage: "));
    let counts = world
        .testbed
        .store()
        .runners()
        .counts(&world.app)
        .await
        .unwrap();
    assert_eq!((counts.live, counts.faulty, counts.idle), (1, 1, 0));
    std::fs::remove_file(files.join("test")).unwrap();
    world.idle("a").await;
    let counts = world
        .testbed
        .store()
        .runners()
        .counts(&world.app)
        .await
        .unwrap();
    assert_eq!((counts.live, counts.faulty, counts.idle), (1, 0, 1));
    let job = world.share("", picture()).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_crashes_every_engine_fails_with_the_reasons_and_the_runner_goes_on() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let before = world.runner("a").await.unwrap();
    let _redispatching = world.redispatching().await;
    let job = world
        .share("", json!({"crash": "at 0x7f00 in /opt/x.so"}))
        .await;
    let record = world.reached(&job, JobState::Failed).await;
    let error = record.error.unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (500, "runner_server_error")
    );
    assert_eq!(
        error.message,
        "failed 3 times with the same fault: the engine crashed (on a)"
    );
    assert_eq!(record.attempt, 3);
    let after = world.idle("a").await;
    assert_eq!((after.epoch, after.fault), (before.epoch, None));
    let job = world.share("", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_one_attempt_ends_with_its_runners_fault() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let mut job = world.spec("", json!({"crash": "no luck"}));
    job.max_attempts = 1;
    world.testbed.store().jobs().create(&job).await.unwrap();
    world.publish_shared(&job).await;
    let error = world.reached(&job, JobState::Failed).await.error.unwrap();
    assert_eq!(
        (error.status, error.message.as_str()),
        (500, "the engine crashed")
    );
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_other_runners_travel_with_the_job() {
    let world = World::new().await;
    let workers = [world.worker("a").await, world.worker("b").await];
    let topology = world.testbed.topology();
    let backlog = topology.lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;
    let job = world.send_to("a", "", json!({"crash": "no luck"})).await;
    let message = backlog.job_message().await;
    assert_eq!(message.job.id, job.id);
    let kinds: Vec<FaultKind> = message.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Engine], "it passed its self-test");
    let names: Vec<&str> = message.avoid.iter().map(|runner| runner.as_str()).collect();
    assert_eq!(names, ["a"]);
    world.end(workers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_runner_can_be_drained() {
    let world = World::new().await;
    let worker = upscaler(&world).await;
    break_storage(&world, true);
    world.share("", picture()).await;
    let faulty = world.faulty("a").await;
    let membership = world.testbed.store().membership();
    assert!(membership.drain(&world.app, &faulty.id).await.unwrap());
    worker.ended().await.unwrap();
    assert!(world.runner("a").await.is_none());
    world.end([]).await;
}
