//! The real engine behind the real queue: prompts become PNGs, and bad models do not stop the
//! worker.

use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_types::state::JobState;

const APP: &str = "warmq/diffusion";

fn shipped_models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

async fn painter(system: &System, models: &Path) -> Worker {
    system
        .worker(WorkerOptions::diffusion("painter", APP, models))
        .await
}

/// Makes a folder with a copy of one shipped model under `name`.
fn copy_model(folder: &Path, model: &str, name: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let target = folder.join(name);
    copy(&shipped_models().join(model), &target);
    target
}

#[tokio::test]
async fn a_prompt_becomes_a_picture_that_is_served() {
    let system = System::start().await;
    let _painter = painter(&system, &shipped_models()).await;
    let input = json!({"prompt": "a red circle on a blue background", "seed": 7, "steps": 10});
    let id = system.submit_to(APP, "shapes", input).await;
    let job = system.succeeded(id).await;
    assert!(!job.timings.unwrap().warm);
    let result = system
        .get(&format!("/queue/{APP}/requests/{id}"))
        .await
        .body;
    assert_eq!(result["seed"], 7);
    let picture = &result["images"][0];
    assert_eq!(
        (&picture["width"], &picture["height"]),
        (&json!(64), &json!(64))
    );
    let url = picture["url"].as_str().unwrap();
    let path = url.strip_prefix(system.router.url()).unwrap();
    let file = system.get(path).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(file.headers["content-type"], "image/png");
    assert_eq!(file.headers["x-content-type-options"], "nosniff");
    let decoded = image::load_from_memory(&file.bytes).unwrap().to_rgb8();
    assert_eq!(decoded.dimensions(), (64, 64));
    let [red, _, blue] = decoded.get_pixel(32, 32).0;
    assert!(red > blue, "the circle in the middle is red");
    let [red, _, blue] = decoded.get_pixel(3, 3).0;
    assert!(blue > red, "the corner is blue");

    // The same seed warm: the same picture, and no load.
    system.all_idle(APP).await;
    let input = json!({"prompt": "a red circle on a blue background", "seed": 7, "steps": 10});
    let again = system
        .succeeded(system.submit_to(APP, "shapes", input).await)
        .await;
    assert!(again.timings.unwrap().warm && again.timings.unwrap().load_ms == 0);
    let result = format!("/queue/{APP}/requests/{}", again.spec.id);
    let result = system.get(&result).await.body;
    let again = system.fetch(result["images"][0]["url"].as_str().unwrap());
    assert_eq!(again.await.bytes, file.bytes);
    system.cleanup().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name_at_submit() {
    let system = System::start().await;
    let _painter = painter(&system, &shipped_models()).await;
    for (field, value, meant) in [
        ("tiling", json!(true), None),
        ("guidance_scal", json!(1), Some("guidance_scale")),
        ("image_sise", json!("square"), Some("image_size")),
        ("promt", json!("a"), Some("prompt")),
        ("num_inference_step", json!(1), Some("num_inference_steps")),
    ] {
        let body = json!({"prompt": "a", "model": "shapes", field: value}).to_string();
        let answer = system.post(APP, &[], &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        let detail = &answer.body["detail"][0];
        assert_eq!(detail["loc"], json!(["body", field]));
        let sentence = detail["msg"].as_str().unwrap();
        let suggests = |known: &str| sentence.contains(&format!("did you mean '{known}'?"));
        assert!(meant.is_none_or(suggests), "{sentence}");
        assert!(sentence.contains("num_inference_steps"), "{sentence}");
    }
    let wrapped = json!({"input": {"prompt": "a", "model": "shapes"}}).to_string();
    let answer = system.post(APP, &[], &wrapped).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let sentence = answer.body["detail"][0]["msg"].as_str().unwrap();
    assert!(sentence.contains("send its content"), "{sentence}");
    system.cleanup().await;
}

#[tokio::test]
async fn integers_may_have_a_decimal_point_and_seed_minus_one_is_random() {
    let system = System::start().await;
    let _painter = painter(&system, &shipped_models()).await;
    let result = async |fields: &str| {
        let body = format!(r#"{{"prompt": "a", "model": "shapes", {fields}}}"#);
        let path = format!("/run/{APP}");
        let answer = system.http(Method::POST, &path, &[], body).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answer.body
    };
    let fields = r#""seed": 42.0, "width": 6.4e1, "num_images": 2.0, "num_inference_steps": 1e0"#;
    let drawn = result(fields).await;
    assert_eq!(drawn["seed"], 42);
    assert_eq!(drawn["images"].as_array().unwrap().len(), 2);
    let drawn = result(r#""seed": -1, "steps": 1.0"#).await["seed"].as_u64();
    assert!(drawn.is_some());
    for seed in ["18446744073709551616", "1e300", "-2", "1.5"] {
        let body = format!(r#"{{"prompt": "a", "model": "shapes", "seed": {seed}}}"#);
        let answer = system.post(APP, &[], &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{seed}");
        assert_eq!(answer.body["detail"][0]["loc"], json!(["body", "seed"]));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn models_beyond_the_memory_budget_evict_the_least_recently_used() {
    let system = System::start().await;
    let options = WorkerOptions::diffusion("painter", APP, shipped_models());
    let probe = system.worker(options.clone()).await;
    let prompt = json!({"prompt": "a", "steps": 1});
    system
        .succeeded(system.submit_to(APP, "shapes", prompt.clone()).await)
        .await;
    let one_model = system.runners(APP).await[0].memory_bytes;
    assert!(one_model > 1_000_000, "{one_model} bytes");
    drop(probe);
    // Memory for two of three.
    let budget = Some(format!("{}B", one_model * 5 / 2));
    let _painter = system
        .worker(WorkerOptions {
            name: "small".into(),
            memory_budget: budget,
            ..options
        })
        .await;
    for (model, loaded) in [
        ("shapes", &["shapes"] as &[&str]),
        ("digits", &["shapes", "digits"]),
        ("shapes", &["digits", "shapes"]),
        ("landscapes", &["shapes", "landscapes"]),
    ] {
        system
            .succeeded(system.submit_to(APP, model, prompt.clone()).await)
            .await;
        let runners = system.runners(APP).await;
        let small = runners
            .iter()
            .find(|runner| runner.id.as_str() == "small")
            .unwrap();
        let hints: Vec<&str> = small.hints.iter().map(|hint| hint.as_str()).collect();
        assert_eq!(hints, loaded);
        assert!(small.memory_bytes <= small.memory_budget_bytes);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn an_unknown_model_is_refused_and_the_known_ones_are_named() {
    let system = System::start().await;
    let _painter = painter(&system, &shipped_models()).await;
    for model in ["flux", "../shapes"] {
        let input = json!({"prompt": "a", "model": model}).to_string();
        let answer = system.post(APP, &[], &input).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.body["detail"][0]["loc"], json!(["body", "model"]));
        assert_names_models(&answer.body, model);
    }
    // Without a model, the engine refuses it.
    let id = system.submit_to(APP, "", json!({"prompt": "a"})).await;
    let job = system.ended(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
    let result = system.get(&format!("/queue/{APP}/requests/{id}")).await;
    assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_names_models(&result.body, "");
    system.cleanup().await;
}

fn assert_names_models(body: &Value, model: &str) {
    let message = body["detail"][0]["msg"].as_str().unwrap();
    for known in [model, "digits", "landscapes", "shapes"] {
        assert!(message.contains(known), "{message}");
    }
}

#[tokio::test]
async fn inputs_out_of_range_are_refused_by_field() {
    let system = System::start().await;
    let _painter = painter(&system, &shipped_models()).await;
    for (input, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": 7}), "prompt"),
        (json!({"prompt": "a", "steps": 0}), "steps"),
        (json!({"prompt": "a", "steps": 1_000_000}), "steps"),
        (json!({"prompt": "a", "width": "wide"}), "width"),
        (json!({"prompt": "a", "width": 63}), "width"),
        (json!({"prompt": "a", "num_images": 100}), "num_images"),
        (json!({"prompt": "a", "guidance": -1}), "guidance"),
        (json!({"prompt": "a", "seed": -2}), "seed"),
    ] {
        let answer = system
            .post(APP, &[("x-fal-runner-hint", "shapes")], &input.to_string())
            .await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{input}: {:?}",
            answer.body
        );
        assert_eq!(
            answer.body["detail"][0]["loc"],
            json!(["body", field]),
            "{input}"
        );
    }
    // Limits of the model itself are checked by the worker, with the same error body.
    let id = system
        .submit_to(APP, "shapes", json!({"prompt": "a", "width": 512}))
        .await;
    let job = system.ended(id).await;
    let error: Value = job.error.unwrap().body();
    assert_eq!(error["detail"][0]["loc"], json!(["body", "width"]));
    system.cleanup().await;
}

#[tokio::test]
async fn a_broken_checkpoint_is_named_and_the_worker_continues() {
    let system = System::start().await;
    let models = tempfile::tempdir().unwrap();
    copy_model(models.path(), "shapes", "shapes");
    let truncated = copy_model(models.path(), "shapes", "truncated");
    let weights = truncated.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let swapped = copy_model(models.path(), "shapes", "swapped");
    // A checkpoint of another architecture: well-formed, but with other tensors.
    std::fs::copy(
        swapped.join("vae/diffusion_pytorch_model.safetensors"),
        swapped.join("unet/diffusion_pytorch_model.safetensors"),
    )
    .unwrap();
    // Without sizes and checksums, so that the tensors themselves are checked.
    for model in [&truncated, &swapped] {
        let path = model.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["files"] = json!([]);
        manifest["name"] = model.file_name().unwrap().to_str().unwrap().into();
        std::fs::write(&path, manifest.to_string()).unwrap();
    }
    let painter = painter(&system, models.path()).await;
    for (model, output) in [
        ("truncated", "diffusion_pytorch_model.safetensors"),
        ("swapped", "conv_in"),
    ] {
        // The worker does not list it, and its log has the reason.
        let input = json!({"prompt": "a", "model": model}).to_string();
        let answer = system.post(APP, &[], &input).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.body["detail"][0]["type"], "model_not_found");
        let log = std::fs::read_to_string(painter.log()).unwrap();
        let mut lines = log
            .lines()
            .filter(|line| line.contains("removed from the catalog"));
        assert!(
            lines.any(|line| line.contains(model) && line.contains(output)),
            "{log}"
        );
    }
    let good = system
        .submit_to(APP, "shapes", json!({"prompt": "a", "steps": 1}))
        .await;
    assert_eq!(
        system.succeeded(good).await.runner.unwrap(),
        *painter.runner()
    );
    let runner = &system.runners(APP).await[0];
    assert_eq!(runner.hints.len(), 1, "only the good model is loaded");
    system.cleanup().await;
}
