//! Pictures are upscaled and cut out by workers without models, several jobs at a time in one
//! process.

use std::io::Cursor;

use image::{Rgb, RgbImage, RgbaImage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_types::state::JobState;

const UPSCALE: &str = "warmq/upscale";
const CUTOUT: &str = "warmq/cutout";

/// 74 bytes that ask for 60000 x 60000 pixels.
const PIXEL_BOMB: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAPsOIVAAAAEUlEQVR42mNgGAWjYBQMdwAAA+gAAc5JTFgAAAAASUVORK5CYII=";

/// Starts a worker of [`UPSCALE`] and one of [`CUTOUT`].
async fn workers(system: &System) -> [Worker; 2] {
    let upscale = WorkerOptions::of("upscale", "upscaler", UPSCALE);
    let cutout = WorkerOptions::of("cutout", "cutter", CUTOUT);
    [system.worker(upscale).await, system.worker(cutout).await]
}

/// A red square of 16 x 16 pixels on a blue background of 32 x 32.
fn square() -> RgbImage {
    let is_inside = |place| (8..24).contains(&place);
    RgbImage::from_fn(32, 32, |x, y| match is_inside(x) && is_inside(y) {
        true => Rgb([210, 40, 50]),
        false => Rgb([40, 80, 200]),
    })
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// Returns the `image` of a job's result.
async fn made(system: &System, app: &str, hint: &str, input: Value) -> Value {
    let id = system.submit_to(app, hint, input).await;
    let timings = system.succeeded(id).await.timings.unwrap();
    assert_eq!((timings.warm, timings.load_ms), (true, 0));
    let mut result = system
        .get(&format!("/queue/{app}/requests/{id}"))
        .await
        .body;
    assert_eq!(result.as_object().unwrap().len(), 1, "{result}");
    result["image"].take()
}

/// Fetches the picture of such an `image`.
async fn picture(system: &System, image: &Value) -> RgbaImage {
    let file = system.fetch(image["url"].as_str().unwrap()).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(file.headers["content-type"], "image/png");
    let picture = image::load_from_memory(&file.bytes).unwrap().into_rgba8();
    let sides = [picture.width(), picture.height()];
    assert_eq!(json!(sides), json!([image["width"], image["height"]]));
    assert_eq!(image["content_type"], "image/png");
    picture
}

#[tokio::test]
async fn an_upload_is_upscaled_and_cut_out() {
    let system = System::start().await;
    let _workers = workers(&system).await;
    let link = system.upload("a.png", "image/png", &png(&square())).await;
    let input = json!({"image_url": link, "factor": 3});
    let larger = made(&system, UPSCALE, "", input).await;
    let seen = picture(&system, &larger).await;
    assert_eq!(seen.dimensions(), (96, 96));
    assert!(seen.pixels().all(|pixel| pixel[3] == 255));
    assert_eq!(seen.get_pixel(48, 48).0, [210, 40, 50, 255]);

    // The output of one app is the input of the other. Both ignore hints, so a hint has no effect.
    let input = json!({"image_url": larger["url"]});
    let cut = made(&system, CUTOUT, "shapes", input).await;
    let seen = picture(&system, &cut).await;
    assert_eq!(seen.dimensions(), (96, 96));
    for (x, y) in [(0, 0), (95, 0), (0, 95), (95, 95), (48, 10)] {
        assert_eq!(seen.get_pixel(x, y)[3], 0, "at {x}, {y}");
    }
    assert_eq!(seen.get_pixel(48, 48).0, [210, 40, 50, 255]);
    let share = seen.pixels().filter(|pixel| pixel[3] > 127).count();
    assert!((2100..2500).contains(&share), "{share} of 48 x 48 pixels");

    for app in [UPSCALE, CUTOUT] {
        system.all_idle(app).await;
        let runner = &system.runners(app).await[0];
        assert!(runner.hints.is_empty());
        assert_eq!((runner.memory_bytes, runner.device.as_str()), (0, "cpu"));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn invalid_inputs_name_their_field_and_the_workers_continue() {
    let system = System::start().await;
    let _workers = workers(&system).await;
    let link = system.upload("a.png", "image/png", &png(&square())).await;
    let text = system.upload("a.png", "image/png", b"no picture").await;
    let wide = system
        .upload("a.png", "image/png", &png(&RgbImage::new(2000, 1)))
        .await;
    // Violations of the schema are refused at once.
    for (app, input, field) in [
        (UPSCALE, json!({}), "image_url"),
        (UPSCALE, json!({"image_url": link, "factor": 0}), "factor"),
        (UPSCALE, json!({"image_url": link, "factor": 5}), "factor"),
        (UPSCALE, json!({"image_url": link, "factor": 1.5}), "factor"),
        (UPSCALE, json!({"image_url": link, "scale": 5}), "scale"),
        (
            UPSCALE,
            json!({"image_url": link, "sync_mode": true}),
            "sync_mode",
        ),
        (CUTOUT, json!({"image_url": link, "factor": 2}), "factor"),
        (
            UPSCALE,
            json!({"image_url": link, "filter": "best"}),
            "filter",
        ),
        (CUTOUT, json!({"image_url": 7}), "image_url"),
        (
            CUTOUT,
            json!({"image_url": link, "tolerance": -0.1}),
            "tolerance",
        ),
        (
            CUTOUT,
            json!({"image_url": link, "tolerance": "some"}),
            "tolerance",
        ),
    ] {
        let answer = system.post(app, &[], &input.to_string()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{input}");
        let loc = &answer.body["detail"][0]["loc"];
        assert_eq!(*loc, json!(["body", field]), "{input}");
    }
    // Properties of the picture itself are checked by the worker.
    for (app, input, field, error_type) in [
        (
            UPSCALE,
            json!({"image_url": text}),
            "image_url",
            "unsupported_image_format",
        ),
        (
            CUTOUT,
            json!({"image_url": text}),
            "image_url",
            "unsupported_image_format",
        ),
        (
            UPSCALE,
            json!({"image_url": PIXEL_BOMB}),
            "image_url",
            "image_too_large",
        ),
        (
            CUTOUT,
            json!({"image_url": PIXEL_BOMB}),
            "image_url",
            "image_too_large",
        ),
        (
            UPSCALE,
            json!({"image_url": wide, "factor": 3}),
            "factor",
            "image_too_large",
        ),
    ] {
        let id = system.submit_to(app, "", input.clone()).await;
        assert_eq!(system.ended(id).await.state, JobState::Failed, "{input}");
        let result = system.get(&format!("/queue/{app}/requests/{id}")).await;
        assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY, "{input}");
        let detail = &result.body["detail"][0];
        assert_eq!(detail["loc"], json!(["body", field]), "{input}");
        assert_eq!(detail["type"], error_type, "{input}: {}", detail["msg"]);
    }
    for app in [UPSCALE, CUTOUT] {
        made(&system, app, "", json!({"image_url": link})).await;
    }
    system.cleanup().await;
}

/// Serves this file to `count` requests, once all of them have arrived.
async fn served_together(file: Vec<u8>, requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.png", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut asked = Vec::new();
        while asked.len() < requests {
            let (mut connection, _) = listener.accept().await.unwrap();
            let read = connection.read(&mut [0; 4096]).await.unwrap();
            if read > 0 {
                asked.push(connection);
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
        for mut connection in asked {
            connection.write_all(head.as_bytes()).await.unwrap();
            connection.write_all(&file).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn the_runners_of_one_process_run_in_parallel() {
    let system = System::start().await;
    let worker = WorkerOptions {
        concurrency: 4,
        ..WorkerOptions::of("upscale", "upscaler", UPSCALE)
    };
    let _worker = system
        .worker(worker.args(["--fetch-allow", "127.0.0.1"]))
        .await;
    // No download ends before all four jobs run.
    let url = served_together(png(&square()), 4).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        let input = json!({"image_url": url});
        jobs.push(system.submit_to(UPSCALE, "", input).await);
    }
    let mut runners = Vec::new();
    for id in jobs {
        runners.push(system.succeeded(id).await.runner.unwrap());
    }
    runners.sort();
    runners.dedup();
    assert_eq!(runners.len(), 4);
    system.cleanup().await;
}
