//! The examples work: submissions resolve as commented, the commands in the comments work, and the
//! flows run on real runners.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use image::{DynamicImage, GenericImageView, ImageFormat, RgbaImage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;
use warmq_testkit::WorkerOptions;
use warmq_tests::System;
use warmq_tests::system::TIMEOUT;
use warmq_types::flow::Step;
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

/// The examples of flows, which lead to several apps; each has a test of its own.
const FLOWS: [&str; 2] = ["fallback.toml", "pipeline.toml"];

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns all examples: names and texts.
fn examples() -> Vec<(String, String)> {
    let folder = checkout().join("deploy/examples");
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".toml"))
        .map(|name| {
            let text = example(&name);
            (name, text)
        })
        .collect()
}

fn example(name: &str) -> String {
    std::fs::read_to_string(checkout().join("deploy/examples").join(name)).unwrap()
}

async fn submit(system: &System, to: &str, headers: &[(&str, &str)], input: &Value) -> JobId {
    system.post(to, headers, &input.to_string()).await.job_id()
}

#[tokio::test]
async fn every_example_resolves_as_commented() {
    let mut count = 0;
    for (file, text) in examples() {
        if FLOWS.contains(&file.as_str()) {
            continue;
        }
        let promises: Vec<CommentedCommand> =
            text.lines().filter_map(CommentedCommand::read).collect();
        assert!(!promises.is_empty(), "{file} promises nothing");
        let system = System::with_config(&text).await;
        // All of them before the first submission: routers cache the load of apps for half a
        // second.
        let mut workers = Vec::new();
        let apps: BTreeSet<&str> = promises.iter().map(|promise| &*promise.app).collect();
        for app in apps {
            let (_, name) = app.split_once('/').unwrap();
            workers.push(system.worker(WorkerOptions::timed(name, app)).await);
        }
        for promise in &promises {
            let mut input = promise.input.clone();
            input["run_ms"] = 1.into();
            input["load_ms"] = 1.into();
            let id = submit(&system, &promise.route, &promise.headers(), &input).await;
            let spec = system.succeeded(id).await.spec;
            assert_eq!(spec.app.as_str(), promise.app, "{file}: {}", promise.line);
            assert_eq!(spec.submitted_to().as_str(), promise.route);
        }
        count += promises.len();
        drop(workers);
        system.cleanup().await;
    }
    assert!(count > 10, "{count}");
}

/// A comment `# route {input} with name: text, … -> app`.
struct CommentedCommand {
    line: String,
    route: String,
    input: Value,
    with: String,
    app: String,
}

impl CommentedCommand {
    fn read(line: &str) -> Option<Self> {
        let (output, app) = line.strip_prefix("# ")?.split_once(" -> ")?;
        let (route, rest) = output.split_once(" {")?;
        let (input, with) = rest.split_once(" with ").unwrap_or((rest, ""));
        Some(Self {
            line: line.to_owned(),
            route: route.to_owned(),
            input: serde_json::from_str(&format!("{{{input}")).unwrap(),
            with: with.to_owned(),
            app: app.to_owned(),
        })
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.with
            .split(", ")
            .filter_map(|header| header.split_once(": "))
            .collect()
    }
}

#[tokio::test]
async fn the_commands_in_every_example_work() {
    for (file, text) in examples() {
        let check = format!("warmq routes check deploy/examples/{file}");
        let commands = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let trials = commands.filter(|command| command.starts_with("warmq routes test "));
        let trials: Vec<&str> = trials.collect();
        assert!(!trials.is_empty(), "{file} has no command");
        for command in trials.into_iter().chain([&*check]) {
            let Output { status, stderr, .. } = typed(command).await;
            let reported = String::from_utf8_lossy(&stderr);
            assert!(status.success(), "{command}: {status}: {reported}");
        }
    }
}

/// Runs a command as typed in a checkout, with `warmq` as built by cargo.
async fn typed(command: &str) -> Output {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap();
    let others = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-c", command])
        .current_dir(checkout())
        .env("PATH", format!("{}:{others}", built.display()))
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_pipeline_makes_stickers_of_prompts_and_stays_warm() {
    let system = System::with_config(&example("pipeline.toml")).await;
    let draw = WorkerOptions::diffusion("draw", "acme/draw", checkout().join("models"));
    let edit = |engine: &str| WorkerOptions {
        concurrency: 4,
        ..WorkerOptions::of(engine, engine, &format!("acme/{engine}"))
    };
    let _workers = [
        system.worker(draw).await,
        system.worker(edit("upscale")).await,
        system.worker(edit("cutout")).await,
    ];
    let order = async |input: Value| submit(&system, "acme/sticker", &[], &input).await;

    let id = order(json!({"prompt": "a red circle on a blue background", "seed": 7})).await;
    let (result, circle) = sticker(&system, id).await;
    let [red, _, blue, alpha] = circle.get_pixel(128, 128).0;
    assert!(red > blue && alpha == 255, "the circle is red");
    assert_eq!(result["seed"], 7);
    let drawn = picture(&system, &result["drawn"]).await;
    assert_eq!(drawn.dimensions(), (64, 64));

    // Each step's output is readable under the id of its job.
    let jobs = step_jobs(&system, id).await;
    let ids = jobs.iter().map(|job| job.spec.id).chain([id]);
    assert_eq!(ids.collect::<BTreeSet<JobId>>().len(), 4);
    for (job, (app, image)) in jobs.iter().zip([
        ("acme/draw", "/images/0"),
        ("acme/upscale", "/image"),
        ("acme/cutout", "/image"),
    ]) {
        let result = format!("/queue/{app}/requests/{}", job.spec.id);
        let result = system.get(&result).await.body;
        picture(&system, result.pointer(image).unwrap()).await;
    }
    let [drawing, ..] = jobs;
    assert_eq!(drawing.spec.hint.unwrap().as_str(), "shapes");
    assert!(!drawing.timings.unwrap().warm);

    // The next jobs follow at once and run warm.
    system.all_idle("acme/draw").await;
    let mut orders = Vec::new();
    for (seed, prompt) in [
        (1, "a green star on a black background"),
        (2, "a white circle on a purple background"),
        (3, "a blue square on a yellow background"),
    ] {
        orders.push(order(json!({"prompt": prompt, "seed": seed})).await);
    }
    for id in orders {
        sticker(&system, id).await;
        let [drawing, ..] = step_jobs(&system, id).await;
        assert!(drawing.timings.unwrap().warm);
    }

    let id = order(json!({"prompt": "a handwritten seven", "model": "digits"})).await;
    let result = system.succeeded(id).await.output.unwrap();
    assert!(result["seed"].is_u64(), "{result}");
    let [drawing, ..] = step_jobs(&system, id).await;
    assert_eq!(drawing.spec.hint.unwrap().as_str(), "digits");
    system.cleanup().await;
}

/// Returns the jobs of a flow's three steps.
async fn step_jobs(system: &System, flow: JobId) -> [JobRecord; 3] {
    let mut jobs = Vec::new();
    for step in system.job(flow).await.flow.unwrap().steps {
        jobs.push(system.job(step.job).await);
    }
    jobs.try_into().unwrap()
}

/// Checks the pipeline's result: a picture of the right size, opaque in its middle and transparent
/// around.
async fn sticker(system: &System, id: JobId) -> (Value, RgbaImage) {
    system.succeeded(id).await;
    let path = format!("/queue/acme/sticker/requests/{id}");
    let result = system.get(&path).await.body;
    let sticker = picture(system, &result["image"]).await;
    let DynamicImage::ImageRgba8(sticker) = sticker else {
        panic!("it has no alpha: {:?}", sticker.color());
    };
    assert_eq!(sticker.dimensions(), (256, 256));
    for (x, y) in [(0, 0), (255, 0), (0, 255), (255, 255)] {
        assert_eq!(sticker.get_pixel(x, y)[3], 0, "at {x}, {y}");
    }
    let middle = sticker.view(64, 64, 128, 128);
    let opaque = middle.pixels().filter(|(_, _, pixel)| pixel[3] == 255);
    let share = opaque.count() * 100 / (128 * 128);
    assert!(share > 20, "{share} % of its middle is opaque");
    (result, sticker)
}

/// Fetches the PNG that a part of a result links to.
async fn picture(system: &System, image: &Value) -> DynamicImage {
    let file = system.fetch(image["url"].as_str().unwrap()).await;
    assert_eq!(file.status, StatusCode::OK);
    let picture = image::load_from_memory_with_format(&file.bytes, ImageFormat::Png).unwrap();
    let sides = [picture.width(), picture.height()];
    assert_eq!(json!(sides), json!([image["width"], image["height"]]));
    picture
}

#[tokio::test]
async fn the_fallback_draws_on_a_gpu_if_it_can_and_else_on_a_cpu() {
    let system = System::with_config(&example("fallback.toml")).await;
    // Returns which engine drew, and the outcome of each step.
    let order = async |beside: Value| {
        let mut input = json!({"model": "m", "prompt": "a fox", "run_ms": 1, "load_ms": 1});
        let beside = beside.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(beside);
        let flow = system.succeeded(submit(&system, "acme/picture", &[], &input).await);
        let flow = flow.await;
        let runner = flow.output.unwrap()["runner"].clone();
        (runner, flow.flow.unwrap().steps)
    };
    let _cpu = system.worker(WorkerOptions::timed("cpu", "acme/cpu")).await;
    let (runner, steps) = order(json!({"seed": 7})).await;
    assert_eq!(
        (runner, why(&steps)),
        (json!("cpu"), "acme/gpu has no runner")
    );
    // It receives what the file says and nothing else.
    let draft = json!({"model": "m", "prompt": "a fox", "seed": 7, "steps": 8});
    assert_eq!(system.job(steps[0].job).await.spec.input, draft);

    let _gpu = system.worker(WorkerOptions::timed("gpu", "acme/gpu")).await;
    let drawn = async || (order(json!({})).await.0 == "gpu").then_some(());
    system.until("the GPU draws", TIMEOUT, drawn).await;

    let (runner, steps) = order(json!({"fail": "out of memory"})).await;
    let failed = "acme/gpu failed: out of memory";
    assert_eq!((runner, why(&steps)), (json!("cpu"), failed));

    let (runner, steps) = order(json!({"run_ms": 60_000})).await;
    let slow = "acme/gpu was given up: it did not end within 5 s";
    assert_eq!((runner, why(&steps)), (json!("cpu"), slow));
    system.reached(steps[0].job, JobState::Cancelled).await;
    system.cleanup().await;
}

/// Returns why the last step was started.
fn why(steps: &[Step]) -> &str {
    let last = steps.last().unwrap();
    last.reason.as_deref().unwrap()
}
