//! The diffusion engine takes the inputs of fal's image apps and answers in their shape.

use std::net::SocketAddr;
use std::path::Path;

use axum::extract::Path as UrlPath;
use axum::http::header;
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;

const APP: &str = "warmq/diffusion";

async fn painter(system: &System) -> Worker {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let options = WorkerOptions::diffusion("painter", APP, models);
    system.worker(options).await
}

/// Runs a job of the model `shapes` with these fields and returns the status and body.
async fn run(system: &System, fields: Value) -> (StatusCode, Value) {
    let mut input = json!({"prompt": "a red circle", "model": "shapes", "steps": 1});
    let fields = fields.as_object().unwrap().clone();
    input.as_object_mut().unwrap().extend(fields);
    let body = input.to_string();
    let path = format!("/run/{APP}");
    let answer = system.http(Method::POST, &path, &[], body).await;
    (answer.status, answer.body)
}

/// Returns the path and message of the only error of a refused input.
async fn refusal(system: &System, fields: Value) -> (Value, String) {
    let (status, body) = run(system, fields.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{fields}: {body}");
    let detail = body["detail"].as_array().unwrap();
    assert_eq!(detail.len(), 1, "{fields}: {body}");
    let message = detail[0]["msg"].as_str().unwrap().to_owned();
    (detail[0]["loc"].clone(), message)
}

#[tokio::test]
async fn pictures_have_the_requested_format_and_are_inline_in_sync_mode() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    for (format, content_type, begin) in [
        ("png", "image/png", &b"\x89PNG"[..]),
        ("jpeg", "image/jpeg", b"\xff\xd8\xff"),
        ("jpg", "image/jpeg", b"\xff\xd8\xff"),
        ("webp", "image/webp", b"RIFF"),
    ] {
        let input = json!({"output_format": format, "num_images": 2});
        let (status, output) = run(&system, input).await;
        assert_eq!(status, StatusCode::OK, "{output}");
        let image = &output["images"][1];
        assert_eq!(image["content_type"], content_type);
        let file = system.fetch(image["url"].as_str().unwrap()).await;
        assert_eq!(file.headers["content-type"], content_type);
        assert!(file.bytes.starts_with(begin), "{format}");

        let input = json!({"output_format": format, "num_images": 2, "sync_mode": true});
        let (_, inline) = run(&system, input).await;
        let url = inline["images"][1]["url"].as_str().unwrap();
        let data = url.strip_prefix(&format!("data:{content_type};base64,"));
        let data = BASE64_STANDARD.decode(data.unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&data).unwrap().width(), 64);
    }
    let (_, output) = run(&system, json!({"seed": 7})).await;
    assert_eq!(output["has_nsfw_concepts"], json!([false]));
    assert!(output["timings"]["inference"].is_f64(), "{output}");
    assert_eq!(
        (&output["seed"], &output["model"]),
        (&json!(7), &json!("shapes"))
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_size_is_a_name_or_two_sides_and_errors_name_it() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let sides = json!({"image_size": {"width": 64.0, "height": 6.4e1}, "width": 64});
    let (status, output) = run(&system, sides).await;
    assert_eq!(status, StatusCode::OK, "{output}");
    assert_eq!(output["images"][0]["height"], 64);
    let whole = json!(["body", "image_size"]);
    for (size, loc, part) in [
        // The router refuses these by the schema, the worker those that the model does not draw.
        (json!("large"), whole.clone(), "landscape_16_9"),
        (
            json!({"width": 64}),
            json!(["body", "image_size", "height"]),
            "",
        ),
        (
            json!({"width": 4096, "height": 64}),
            json!(["body", "image_size", "width"]),
            "2048",
        ),
        (json!("square_hd"), whole, "1024 is not in 64 to 64"),
        (
            json!({"width": 72, "height": 64}),
            json!(["body", "image_size", "width"]),
            "72",
        ),
    ] {
        let (path, message) = refusal(&system, json!({"image_size": size})).await;
        assert_eq!(path, loc, "{size}: {message}");
        assert!(message.contains(part), "{size}: {message}");
    }
    let sides = json!({"image_size": {"width": 64, "height": 64}, "height": 128});
    let (path, message) = refusal(&system, sides).await;
    assert_eq!(path, json!(["body", "height"]));
    assert_eq!(message, "128, but image_size has 64: give one of them");
    system.cleanup().await;
}

#[tokio::test]
async fn a_field_under_two_names_is_refused() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let (path, message) = refusal(&system, json!({"num_inference_steps": 2})).await;
    assert_eq!(path, json!(["body", "num_inference_steps"]));
    assert!(
        message.contains("'steps' and 'num_inference_steps'"),
        "{message}"
    );
    let (status, _) = run(&system, json!({"loras": [], "guidance_scale": 2})).await;
    assert_eq!(status, StatusCode::OK);
    system.cleanup().await;
}

/// Runs a job with these fields and returns the first picture's pixels.
async fn pixels(system: &System, fields: Value) -> image::RgbImage {
    let (status, output) = run(system, fields).await;
    assert_eq!(status, StatusCode::OK, "{output}");
    let file = system
        .fetch(output["images"][0]["url"].as_str().unwrap())
        .await;
    image::load_from_memory(&file.bytes).unwrap().into_rgb8()
}

/// Returns a grey picture of one shade per half, as a `data:` URI.
fn halves(left: u8, right: u8) -> String {
    let shade = |x, _| image::Luma([if x < 32 { left } else { right }]);
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_fn(64, 64, shade)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(png.into_inner())
    )
}

#[tokio::test]
async fn only_what_the_mask_covers_is_redrawn() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let masked = |mask: String| {
        let image = halves(90, 90);
        json!({"image_url": image, "mask_url": mask, "seed": 1, "steps": 4, "guidance": 2.5})
    };
    let nothing = pixels(&system, masked(halves(0, 0))).await;
    let left = pixels(&system, masked(halves(255, 0))).await;
    let mean_difference = |from: u32| {
        let pixels = (from..from + 16).flat_map(|x| (0..64).map(move |y| (x, y)));
        let differences = pixels.map(|(x, y)| {
            let (one, other) = (left.get_pixel(x, y)[0], nothing.get_pixel(x, y)[0]);
            u32::from(one.abs_diff(other))
        });
        differences.sum::<u32>() / (16 * 64)
    };
    let (redrawn, kept) = (mean_difference(0), mean_difference(48));
    assert!(redrawn > 2 * kept, "{redrawn} and {kept}");
    let (path, message) = refusal(&system, json!({"mask_url": halves(255, 0)})).await;
    assert_eq!(path, json!(["body", "image_url"]), "{message}");
    system.cleanup().await;
}

/// Returns a LoRA of rank 1 for one layer of the model `shapes`.
fn lora() -> Vec<u8> {
    let layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0";
    let header = json!({
        format!("{layer}.lora_A.weight"): {"dtype": "F32", "shape": [1, 96], "data_offsets": [0, 384]},
        format!("{layer}.lora_B.weight"): {"dtype": "F32", "shape": [96, 1], "data_offsets": [384, 768]},
    });
    let header = header.to_string();
    let numbers = (0..192_u8).flat_map(|i| (f32::from(i % 7) - 3.0).to_le_bytes());
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(numbers);
    file
}

#[tokio::test]
async fn a_lora_changes_its_own_job_and_the_hint_stays_the_models() {
    let system = System::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("waves.safetensors"), lora()).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut options = WorkerOptions::diffusion("painter", APP, models);
    let loras = folder.path().to_str().unwrap().to_owned();
    options.args.extend(["--loras".to_owned(), loras]);
    let _painter = system.worker(options).await;
    let input = |loras: Value| json!({"seed": 3, "steps": 4, "loras": loras});
    let plain = pixels(&system, input(json!([]))).await;
    let waves = json!([{"path": "waves", "scale": 2.0}]);
    assert!(pixels(&system, input(waves)).await != plain);
    assert!(pixels(&system, input(json!([]))).await == plain);
    let (path, message) = refusal(&system, input(json!([{"path": "comic"}]))).await;
    assert_eq!(path, json!(["body", "loras", "0", "path"]));
    assert_eq!(message, "'comic' not found; known: waves");
    system.cleanup().await;
}

/// Serves a LoRA whose tag is its only version at `/tagged/{tag}`, and text at `/text`.
async fn serve_loras() -> SocketAddr {
    let tagged = |UrlPath(tag): UrlPath<String>| async move { ([(header::ETAG, tag)], lora()) };
    let routes = axum::Router::new()
        .route("/tagged/{tag}", get(tagged))
        .route("/text", get(|| async { "no LoRA" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

#[tokio::test]
async fn a_lora_at_a_url_is_applied_and_stays_on_disk_for_later_jobs() {
    let system = System::start().await;
    let cache = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut options = WorkerOptions::diffusion("painter", APP, models);
    let folder = cache.path().to_str().unwrap();
    let flags = ["--lora-cache", folder, "--fetch-allow", "127.0.0.1"];
    options.args.extend(flags.map(str::to_owned));
    let _painter = system.worker(options).await;
    let address = serve_loras().await;
    let with = |path: &str| {
        let lora = json!({"path": format!("http://{address}{path}"), "scale": 2.0});
        json!({"seed": 3, "steps": 4, "loras": [lora]})
    };
    let files = || cache.path().read_dir().unwrap().count();
    let plain = pixels(&system, json!({"seed": 3, "steps": 4})).await;
    let waves = pixels(&system, with("/tagged/a")).await;
    assert!(waves != plain);
    assert!(pixels(&system, with("/tagged/a")).await == waves);
    assert_eq!(files(), 1);
    assert!(pixels(&system, with("/tagged/b")).await == waves);
    assert_eq!(files(), 2);

    let (path, message) = refusal(&system, with("/missing")).await;
    assert_eq!(path, json!(["body", "loras", "0", "path"]));
    assert!(message.contains("answered 404"), "{message}");
    let (_, message) = refusal(&system, with("/text")).await;
    assert!(
        message.contains("/text: not a safetensors file"),
        "{message}"
    );
    let hub = json!({"loras": [{"path": "owner/name"}]});
    let (path, message) = refusal(&system, hub).await;
    assert_eq!(path, json!(["body", "loras", "0", "path"]));
    assert!(message.contains("/owner/name/resolve/main/"), "{message}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_cut_prompt_and_a_missing_safety_checker_are_noted() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let (_, output) = run(&system, json!({"enable_safety_checker": false})).await;
    assert_eq!(output.get("notes"), None);
    let prompt = format!("{} a blue hat", "red ".repeat(14).trim());
    let input = json!({"prompt": prompt, "enable_safety_checker": true});
    let (_, output) = run(&system, input).await;
    let notes = [
        "the prompt was cut after 16 tokens: 'a blue hat' has no effect",
        "no safety checker ran: this engine does not have one",
    ];
    assert_eq!(output["notes"], json!(notes));
    system.cleanup().await;
}
