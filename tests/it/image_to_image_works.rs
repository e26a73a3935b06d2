//! Image to image. Invalid pictures are refused by field and the worker continues. Clients can
//! follow the previews.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_types::state::JobState;

const APP: &str = "warmq/diffusion";

/// 74 bytes that ask for 60000 x 60000 pixels.
const PIXEL_BOMB: &str = "iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAPsOIVAAAAEUlEQVR42mNgGAWjYBQMdwAAA+gAAc5JTFgAAAAASUVORK5CYII=";

async fn painter(system: &System) -> Worker {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let options = WorkerOptions::diffusion("painter", APP, models);
    system.worker(options).await
}

/// Runs a job of the model `shapes` and returns its picture.
async fn drawn(system: &System, input: Value) -> RgbImage {
    let id = system.submit_to(APP, "shapes", input).await;
    system.succeeded(id).await;
    let result = system
        .get(&format!("/queue/{APP}/requests/{id}"))
        .await
        .body;
    let url = result["images"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix(system.router.url()).unwrap();
    let file = system.get(path).await.bytes;
    image::load_from_memory(&file).unwrap().into_rgb8()
}

fn data_uri(picture: &RgbImage) -> String {
    format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(png(picture))
    )
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// Returns the mean over all channels of all pixels, of 255.
fn difference(one: &RgbImage, other: &RgbImage) -> f64 {
    let pairs = one.as_raw().iter().zip(other.as_raw());
    let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / one.as_raw().len() as f64
}

#[tokio::test]
async fn strength_controls_how_much_a_picture_changes() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let circle = json!({"prompt": "a red circle on a blue background", "seed": 7});
    let circle = drawn(&system, circle).await;
    let square = |strength: f64, image: &RgbImage| {
        json!({
            "prompt": "a yellow square on a green background", "seed": 3, "image_url": data_uri(image), "strength": strength,
        })
    };
    let kept = drawn(&system, square(0.05, &circle)).await;
    assert!(
        difference(&circle, &kept) < 6.0,
        "{}",
        difference(&circle, &kept)
    );
    let new = drawn(&system, square(1.0, &circle)).await;
    let [red, green, blue] = new.get_pixel(32, 32).0;
    assert!(
        red > 180 && green > 150 && blue < 100,
        "yellow: {red} {green} {blue}"
    );

    // Another size, and another format than PNG.
    let large = image::imageops::resize(&circle, 200, 200, image::imageops::FilterType::Triangle);
    let kept = drawn(&system, square(0.05, &large)).await;
    assert!(
        difference(&circle, &kept) < 8.0,
        "{}",
        difference(&circle, &kept)
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_picture_is_refused_by_field_and_the_worker_continues() {
    let system = System::start().await;
    let painter = painter(&system).await;
    let plain = RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30]));
    let whole = png(&plain);
    let mut jpeg = std::io::Cursor::new(Vec::new());
    plain.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let data = |bytes: &[u8]| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes));
    for (image_url, error_type) in [
        ("a.png".to_owned(), "value_error"),
        ("file:///etc/passwd".to_owned(), "value_error"),
        (String::new(), "value_error"),
        ("data:image/png;base64,!!!!".to_owned(), "value_error"),
        ("data:image/png".to_owned(), "value_error"),
        ("http://127.0.0.1:1/a.png".to_owned(), "file_download_error"),
        (
            "http://169.254.169.254/latest/meta-data".to_owned(),
            "file_download_error",
        ),
        (
            "http://[::ffff:10.0.0.1]/".to_owned(),
            "file_download_error",
        ),
        (
            "http://no-such-host.invalid/a.png".to_owned(),
            "file_download_error",
        ),
        (
            format!("data:image/png;base64,{PIXEL_BOMB}"),
            "image_too_large",
        ),
        (data(&whole[..whole.len() / 2]), "image_load_error"),
        (data(&jpeg[..jpeg.len() / 2]), "image_load_error"),
        (
            data(b"<!doctype html><title>a.png</title>"),
            "unsupported_image_format",
        ),
        (
            data(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
            "unsupported_image_format",
        ),
        (data(b""), "unsupported_image_format"),
    ] {
        let shown: String = image_url.chars().take(60).collect();
        let input = json!({"prompt": "a red circle", "image_url": image_url});
        let id = system.submit_to(APP, "shapes", input).await;
        let job = system.ended(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Failed, 1), "{shown}");
        let result = system.get(&format!("/queue/{APP}/requests/{id}")).await;
        assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown}");
        let detail = &result.body["detail"][0];
        assert_eq!(detail["loc"], json!(["body", "image_url"]), "{shown}");
        assert_eq!(detail["type"], error_type, "{shown}: {}", detail["msg"]);
    }
    for (field, value) in [
        ("image_url", json!(7)),
        ("strength", json!(0)),
        ("strength", json!(2)),
    ] {
        let mut input = json!({"prompt": "a", "image_url": data(&whole)});
        input[field] = value;
        let answer = system.post(APP, &[], &input.to_string()).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{:?}",
            answer.body
        );
        assert_eq!(answer.body["detail"][0]["loc"], json!(["body", field]));
    }
    let good = json!({"prompt": "a red circle", "image_url": data(&whole), "steps": 2});
    let job = system
        .succeeded(system.submit_to(APP, "shapes", good).await)
        .await;
    assert_eq!(job.runner.unwrap(), *painter.runner());
    system.cleanup().await;
}

fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    events
        .map(|json| serde_json::from_str(json).unwrap())
        .collect()
}

#[tokio::test]
async fn previews_are_streamed_once_each_and_polled_until_the_end() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    // Long enough to be followed.
    let input = |preview: bool| json!({"prompt": "a red circle on a blue background", "steps": 200, "num_images": 2, "preview": preview});
    let id = system.submit_to(APP, "shapes", input(true)).await;
    let status = format!("/queue/{APP}/requests/{id}/status");
    let polled = system.until(
        "a preview can be polled",
        warmq_tests::system::TIMEOUT,
        async || {
            let answer = system.get(&status).await.body;
            answer["progress"]["preview"].as_str().map(str::to_owned)
        },
    );
    let stream = format!("{status}/stream");
    let (polled, followed) = tokio::join!(polled, system.get(&stream));
    let is_preview = |text: &str| {
        let jpeg = text.strip_prefix("data:image/jpeg;base64,").unwrap();
        let jpeg = BASE64_STANDARD.decode(jpeg).unwrap();
        jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.len() < 4_000
    };
    assert!(is_preview(&polled));
    let events = events(&followed.bytes);
    let previews: Vec<&str> = events
        .iter()
        .filter_map(|event| event["progress"]["preview"].as_str())
        .collect();
    assert!(
        previews.len() >= 2,
        "{} of {} events",
        previews.len(),
        events.len()
    );
    assert!(previews.iter().all(|preview| is_preview(preview)));
    assert!(
        previews.windows(2).all(|pair| pair[0] != pair[1]),
        "each is sent once"
    );
    assert_eq!(events.last().unwrap()["status"], "COMPLETED");
    assert!(system.succeeded(id).await.progress.is_none());

    // Previews are made only on request.
    let id = system.submit_to(APP, "shapes", input(false)).await;
    let stream = format!("/queue/{APP}/requests/{id}/status/stream");
    let followed = system.get(&stream).await;
    assert!(
        !String::from_utf8(followed.bytes)
            .unwrap()
            .contains("preview")
    );
    system.cleanup().await;
}
