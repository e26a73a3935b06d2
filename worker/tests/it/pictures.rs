//! Jobs of the diffusion engine, with the models that ship.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use warmq_broker::Topology;
use warmq_config::ByteSize;
use warmq_diffusion::{Catalog, Pipeline};
use warmq_objects::{ObjectStorage, REFERENCE_PREFIX};
use warmq_process::clock::unix_ms;
use warmq_store::{FreeRunner, Registration, RunnerEvent, RunnerReport};
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::{JobSpec, Phase};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;
use warmq_worker::config::Config;
use warmq_worker::engine::EngineKind;

use crate::harness::{InProcess, World};

async fn worker(world: &World, models: &Path) -> InProcess {
    worker_that_reaches(world, models, "").await
}

async fn worker_that_reaches(world: &World, models: &Path, fetch_allow: &str) -> InProcess {
    let mut config = config(world, models);
    config.fetch_allow = fetch_allow.parse().unwrap();
    world.worker_with(Default::default(), config).await
}

fn config(world: &World, models: &Path) -> Config {
    let mut config = world.config("a");
    config.engine.kind = EngineKind::Diffusion;
    config.engine.models = models.to_owned();
    config.engine.device = "cpu".to_owned();
    config.engine.memory_budget = ByteSize(256 << 20);
    config
}

fn shipped_models() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_from_the_shared_queue_waits_the_longer_for_a_runner_with_its_model_the_older_it_is()
{
    let world = World::new().await;
    let worker = worker(&world, shipped_models()).await;
    let owner = Registration {
        app: world.app.clone(),
        runner: RunnerId::parse("owner").unwrap(),
        epoch: Epoch(1),
        host: "h".to_owned(),
        pid: 1,
        instance: String::new(),
        engine: "diffusion".to_owned(),
        device: "none".to_owned(),
        memory_budget_bytes: 1,
        ram_budget_bytes: 0,
        models: vec![Hint::parse("large").unwrap()],
        report: RunnerReport::default(),
    };
    let (store, lease) = (world.testbed.store(), Duration::from_secs(60));
    store
        .membership()
        .register(&owner, &json!({}), lease)
        .await
        .unwrap();
    let channel = world.testbed.publisher().channel().await.unwrap();
    for (age_s, tier) in [(20, RetryTier::S5), (3600, RetryTier::S30)] {
        let job = JobSpec {
            created_ms: unix_ms() - age_s * 1000,
            ..world.spec("large", json!({}))
        };
        world.publish_shared(&job).await;
        let parked = world.testbed.topology().retry_exchange(tier);
        world
            .until("a copy is parked", async || {
                (Topology::depth(&channel, &parked).await.unwrap() == 1).then_some(())
            })
            .await;
    }
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_becomes_a_stored_png_and_the_model_becomes_a_hint() {
    let world = World::new().await;
    let worker = worker(&world, shipped_models()).await;
    let input = json!({"prompt": "a red circle on a blue background", "steps": 4, "seed": 7, "num_images": 2});
    let mut pictures = Vec::new();
    for warm in [false, true] {
        let job = world.share("shapes", input.clone()).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        assert_eq!(record.timings.unwrap().warm, warm);
        let output = record.output.unwrap();
        assert_eq!(
            (&output["model"], &output["seed"]),
            (&json!("shapes"), &json!(7))
        );
        assert_eq!(output["images"].as_array().unwrap().len(), 2);
        let image = &output["images"][1];
        assert_eq!(
            (&image["width"], &image["content_type"]),
            (&json!(64), &json!("image/png"))
        );
        let storage = ObjectStorage::open(&world.config("a").servers.storage).unwrap();
        let key = image["url"]
            .as_str()
            .unwrap()
            .strip_prefix(REFERENCE_PREFIX)
            .unwrap();
        pictures.push(storage.get(key).await.unwrap().unwrap());
    }
    assert!(pictures[0].starts_with(b"\x89PNG"));
    assert_eq!(pictures[0], pictures[1], "the same seed draws the same");
    let runner = world.runner("a").await.unwrap();
    assert_eq!(
        (runner.hints[0].as_str(), runner.device.as_str()),
        ("shapes", "cpu")
    );
    assert!(runner.memory_bytes > 1 << 20);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_model_is_the_jobs_fault_and_the_known_ones_are_named() {
    let world = World::new().await;
    let worker = worker(&world, shipped_models()).await;
    let job = world
        .share("", json!({"prompt": "x", "model": "nope"}))
        .await;
    let error = world.reached(&job, JobState::Failed).await.error.unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (422, "model_not_found")
    );
    assert_eq!(error.detail[0].loc, ["body", "model"]);
    assert!(
        error.message.contains("nope") && error.message.contains("shapes"),
        "{}",
        error.message
    );
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_model_fails_its_jobs_by_name_and_no_others() {
    let world = World::new().await;
    let models = world.testbed.folder().join("models");
    for name in ["shapes", "digits"] {
        copy(&shipped_models().join(name), &models.join(name));
    }
    let weights = models.join("digits/unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    let worker = worker(&world, &models).await;
    let _redispatching = world.redispatching().await;
    let damaged = world.share("digits", json!({"prompt": "seven"})).await;
    let error = world
        .reached(&damaged, JobState::Failed)
        .await
        .error
        .unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (500, "runner_server_error")
    );
    assert!(
        error.message.contains("digits") && error.message.contains("unet/"),
        "{}",
        error.message
    );
    // A job's own error would have ended it at the first attempt.
    assert_eq!(world.record(&damaged).await.unwrap().attempt, 3);
    let sound = world
        .share("shapes", json!({"prompt": "a red circle", "steps": 2}))
        .await;
    world.reached(&sound, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_model_evicts_no_sound_one_though_there_is_room_for_one_only() {
    let world = World::new().await;
    let models = world.testbed.folder().join("models");
    for name in ["shapes", "digits"] {
        copy(&shipped_models().join(name), &models.join(name));
    }
    let catalog = Catalog::open(&models).unwrap();
    let bytes = |name: &str| {
        let sizes = Pipeline::weight_sizes(&catalog.manifest(name).unwrap());
        sizes.unwrap().cpu_bytes
    };
    let mut config = config(&world, &models);
    config.engine.memory_budget = ByteSize(bytes("shapes") + bytes("digits") / 2);
    let worker = world.worker_with(Default::default(), config).await;
    let draw = async |timings_are_warm: bool| {
        let input = json!({"prompt": "a red circle", "steps": 2});
        let job = world.share("shapes", input).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        assert_eq!(record.timings.unwrap().warm, timings_are_warm);
    };
    draw(false).await;
    // Damaged after it has passed the check at the start: only a job detects it.
    let weights = models.join("digits/unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    let damaged = world.share("digits", json!({"prompt": "seven"})).await;
    let failed = async || {
        let record = world.record(&damaged).await?;
        (record.state == JobState::Queued && record.attempt == 1).then_some(())
    };
    world.until("an attempt with it has failed", failed).await;
    draw(true).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_overwritten_in_place_are_a_new_model_from_the_next_job_on() {
    let world = World::new().await;
    let models = world.testbed.folder().join("models");
    copy(&shipped_models().join("shapes"), &models.join("shapes"));
    // Without the list of files, whose checksums would reveal the change as damage.
    let manifest_file = models.join("shapes/manifest.json");
    let manifest = std::fs::read(&manifest_file).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["files"] = json!([]);
    std::fs::write(&manifest_file, manifest.to_string()).unwrap();
    let worker = worker(&world, &models).await;
    let draw = async || {
        let input = json!({"prompt": "a red circle", "steps": 2, "seed": 7, "sync_mode": true});
        let job = world.share("shapes", input).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        let picture = record.output.unwrap()["images"][0]["url"].clone();
        (record.timings.unwrap().warm, picture)
    };
    let (is_warm, first) = draw().await;
    assert!(!is_warm);
    assert_eq!(draw().await, (true, first.clone()));
    // The weights of another model of this shape: same file, same length, same modification time.
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let file = models.join("shapes").join(weights);
    let other = std::fs::read(shipped_models().join("digits").join(weights)).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    assert_eq!(before.len(), other.len() as u64);
    std::fs::write(&file, other).unwrap();
    let file = std::fs::File::options().write(true).open(&file).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let (is_warm, second) = draw().await;
    assert!(!is_warm && second != first);
    assert_eq!(draw().await, (true, second));
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_are_the_models_that_fit_together() {
    let world = World::new().await;
    let catalog = Catalog::open(shipped_models()).unwrap();
    let bytes = ["digits", "landscapes", "shapes"].map(|name| {
        let sizes = Pipeline::weight_sizes(&catalog.manifest(name).unwrap());
        sizes.unwrap().cpu_bytes
    });
    let mut config = config(&world, shipped_models());
    // For two of three, but not for two and a half.
    config.engine.memory_budget = ByteSize(bytes.iter().sum::<u64>() * 5 / 6);
    let worker = world.worker_with(Default::default(), config).await;
    for (model, loaded) in [("shapes", 1), ("digits", 2), ("landscapes", 2)] {
        let job = world
            .share(model, json!({"prompt": "a red circle", "steps": 1}))
            .await;
        world.reached(&job, JobState::Succeeded).await;
        let runner = world.runner("a").await.unwrap();
        assert_eq!((runner.hints.len(), runner.slots), (loaded, 2));
    }
    world.end([worker]).await;
}

/// A server of one file, for a number of requests.
async fn serve(file: Vec<u8>, requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/picture", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            // In one piece, as it is short.
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            // The client may disconnect early.
            let _ = stream.write_all(&file).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_to_start_from_comes_from_the_storage_or_the_network() {
    let world = World::new().await;
    let worker = worker_that_reaches(&world, shipped_models(), "127.0.0.1").await;
    let storage = ObjectStorage::open(&world.config("a").servers.storage).unwrap();
    let drawn = world
        .share("shapes", json!({"prompt": "a red circle", "steps": 4}))
        .await;
    let output = world
        .reached(&drawn, JobState::Succeeded)
        .await
        .output
        .unwrap();
    let reference = output["images"][0]["url"].as_str().unwrap();
    let key = reference.strip_prefix(REFERENCE_PREFIX).unwrap();
    let file = storage.get(key).await.unwrap().unwrap();
    let url = serve(file.to_vec(), 1).await;
    let mut pictures = Vec::new();
    for image_url in [reference, &url] {
        let input = json!({"prompt": "a red circle", "image_url": image_url, "strength": 0.3, "steps": 10, "seed": 7});
        let job = world.share("shapes", input).await;
        let output = world
            .reached(&job, JobState::Succeeded)
            .await
            .output
            .unwrap();
        let key = output["images"][0]["url"].as_str().unwrap();
        let key = key.strip_prefix(REFERENCE_PREFIX).unwrap();
        pictures.push(storage.get(key).await.unwrap().unwrap());
    }
    assert_eq!(pictures[0], pictures[1]);
    let log = world
        .testbed
        .store()
        .log()
        .all(&world.app, drawn.id)
        .await
        .unwrap();
    assert!(log.iter().all(|line| line.message != "fetching"), "{log:?}");

    let too_large = vec![0; (10 << 20) + 1];
    let too_large_there = serve(too_large.clone(), 1).await;
    let app = &world.app;
    let too_large_here = storage
        .put(app, drawn.id, "large", too_large.into())
        .await
        .unwrap();
    for (image_url, error_type) in [
        ("warmq://files/nothing/here.png", "file_download_error"),
        ("warmq://files/../../etc/passwd", "file_download_error"),
        (&too_large_here, "file_too_large"),
        (&too_large_there, "file_too_large"),
    ] {
        let job = world
            .share("shapes", json!({"prompt": "x", "image_url": image_url}))
            .await;
        let error = world.reached(&job, JobState::Failed).await.error.unwrap();
        assert_eq!(
            (error.status, error.error_type.as_str()),
            (422, error_type),
            "{image_url}"
        );
        assert_eq!(error.detail[0].loc, ["body", "image_url"]);
    }
    let runner = world.runner("a").await.unwrap();
    assert_eq!(
        runner.hints[0].as_str(),
        "shapes",
        "it still holds its model"
    );
    world.end([worker]).await;
}

/// A server that responds with these heads, one to each request, and then with the last one.
async fn respond(heads: &'static [&'static str], file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/picture", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let last = heads.iter().rev().take(1).cycle();
        for head in heads.iter().chain(last) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            // In one piece, as it is short.
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let body: &[u8] = if head.starts_with("200") { &file } else { b"" };
            let length = body.len();
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_whose_host_is_busy_is_fetched_again_by_the_next_attempt() {
    let world = World::new().await;
    let worker = worker_that_reaches(&world, shipped_models(), "127.0.0.1").await;
    let _redispatching = world.redispatching().await;
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30]));
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let busy = &["503 Service Unavailable", "429 Too Many Requests", "200 OK"];
    let url = respond(busy, png.into_inner()).await;
    let input = json!({"prompt": "a red circle", "steps": 2, "image_url": url});
    let job = world.share("shapes", input).await;
    let record = world.reached(&job, JobState::Succeeded).await;
    assert_eq!(record.attempt, 3);
    let log = world
        .testbed
        .store()
        .log()
        .all(&world.app, job.id)
        .await
        .unwrap();
    let is_named = log
        .iter()
        .any(|line| line.message.contains("127.0.0.1 answered 503"));
    assert!(is_named, "{log:?}");
    assert_eq!(world.runner("a").await.unwrap().fault, None);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_whose_host_stays_busy_fails_its_job_after_the_last_attempt() {
    let world = World::new().await;
    let worker = worker_that_reaches(&world, shipped_models(), "127.0.0.1").await;
    let _redispatching = world.redispatching().await;
    let url = respond(&["503 Service Unavailable"], Vec::new()).await;
    let job = JobSpec {
        max_attempts: 2,
        ..world.spec("shapes", json!({"prompt": "a", "image_url": url}))
    };
    world.testbed.store().jobs().create(&job).await.unwrap();
    world.publish_shared(&job).await;
    let record = world.reached(&job, JobState::Failed).await;
    assert_eq!(record.attempt, 2);
    let error = record.error.unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (422, "file_download_error")
    );
    assert_eq!(
        error.message,
        "image_url: the file cannot be fetched now: 127.0.0.1 answered 503; \
         submit the job again later, or upload the file"
    );
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_input_is_refused_before_its_picture_is_fetched() {
    let world = World::new().await;
    let worker = worker_that_reaches(&world, shipped_models(), "127.0.0.1").await;
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", host.local_addr().unwrap());
    for (field, value) in [
        ("width", json!(72)),
        ("model", json!("nope")),
        ("scheduler", json!("nope")),
    ] {
        let mut input = json!({"prompt": "a", "image_url": url});
        input[field] = value;
        let job = world.share("shapes", input).await;
        let record = world.reached(&job, JobState::Failed).await;
        let error = record.error.unwrap();
        assert_eq!(error.detail[0].loc, ["body", field], "{}", error.message);
    }
    let connection = host.accept();
    assert_eq!(
        connection.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_for_its_picture_can_be_cancelled() {
    let world = World::new().await;
    let worker = worker_that_reaches(&world, shipped_models(), "127.0.0.1").await;
    // Connections are never answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let job = world
        .share("shapes", json!({"prompt": "x", "image_url": url}))
        .await;
    world
        .until("it is being fetched", async || {
            let progress = world.record(&job).await?.progress?;
            (progress.phase == Phase::Fetching).then_some(())
        })
        .await;
    let begun = std::time::Instant::now();
    world
        .testbed
        .store()
        .cancellation()
        .cancel(&world.app, job.id)
        .await
        .unwrap();
    world
        .until("the runner is idle", async || {
            world.runner("a").await?.idle.then_some(())
        })
        .await;
    assert!(
        begun.elapsed().as_secs() < 10,
        "it did not wait for its answer"
    );
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Cancelled);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_changes_on_disk_is_loaded_again() {
    let world = World::new().await;
    let models = world.testbed.folder().join("models");
    copy(&shipped_models().join("shapes"), &models.join("shapes"));
    let worker = worker(&world, &models).await;
    let mut warm = Vec::new();
    for replaced in [false, false, true] {
        if replaced {
            std::fs::remove_dir_all(models.join("shapes")).unwrap();
            copy(&shipped_models().join("digits"), &models.join("shapes"));
        }
        let job = world
            .share("shapes", json!({"prompt": "seven", "steps": 1}))
            .await;
        let record = world.reached(&job, JobState::Succeeded).await;
        warm.push(record.timings.unwrap().warm);
    }
    assert_eq!(warm, [false, true, false]);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_that_ran_is_reported_though_the_hint_names_another() {
    let world = World::new().await;
    let worker = worker(&world, shipped_models()).await;
    let mut changes = world
        .testbed
        .store()
        .runner_feed()
        .events(&world.app)
        .await
        .unwrap();
    let input = json!({"prompt": "seven", "steps": 1, "model": "digits"});
    world.share("shapes", input).await;
    let ran = loop {
        if let Some(RunnerEvent::Freed(FreeRunner { ran: Some(ran), .. })) = changes.next().await {
            break ran;
        }
    };
    assert_eq!(ran.hint.as_str(), "digits");
    assert_eq!(world.runner("a").await.unwrap().hints[0].as_str(), "digits");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_models_make_their_runner_faulty_until_they_are_back() {
    let world = World::new().await;
    let models = world.testbed.folder().join("models");
    let away = world.testbed.folder().join("away");
    copy(&shipped_models().join("shapes"), &models.join("shapes"));
    let worker = worker(&world, &models).await;
    // Like a folder whose file system is no longer mounted.
    std::fs::rename(models.join("shapes"), &away).unwrap();
    let _redispatching = world.redispatching().await;
    let job = world
        .share("shapes", json!({"prompt": "a red circle", "steps": 1}))
        .await;
    let faulty = world.faulty("a").await;
    let fault = faulty.fault.unwrap();
    assert!(
        fault.starts_with("model: ") && fault.contains("shapes"),
        "{fault}"
    );
    assert!(!faulty.idle && faulty.hints.is_empty() && faulty.fault_since_ms.is_some());
    assert_eq!(world.record(&job).await.unwrap().error, None);
    std::fs::rename(&away, models.join("shapes")).unwrap();
    let record = world.reached(&job, JobState::Succeeded).await;
    assert!(record.attempt > 1);
    assert_eq!(world.runner("a").await.unwrap().fault, None);
    world.end([worker]).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
