//! Classes of fal's Python package run as they are, with real pipelines of Hugging Face's library
//! (tiny, with random weights), and call each other through the router.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

const SDXL: &str = "stabilityai/stable-diffusion-xl-base-1.0";
const FLUX: &str = "black-forest-labs/FLUX.1-schnell";

/// Timeout for the start of an app that imports torch, on a busy machine.
const START: Duration = Duration::from_secs(180);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/fal_apps_run_unmodified")
}

fn python() -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv-fal/bin/python");
    assert!(python.exists(), "fal is not installed: `make setup-test`");
    python.display().to_string()
}

/// Fills a cache of Hugging Face's hub with the two pipelines.
async fn hub(system: &System) -> String {
    let cache = system.testbed.folder().join("hub");
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/diffusion/tests");
    let filled = Command::new(python())
        .arg(folder().join("python/hub.py"))
        .args([&cache, &references.join("references")])
        .args([format!("{SDXL}=sdxl"), format!("{FLUX}=flux")])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&filled.stderr);
    assert!(filled.status.success(), "{errors}");
    cache.display().to_string()
}

/// A worker for a class of apps/; the pipelines are those of `hub`.
fn class(system: &System, name: &str, class: &str, hub: &str) -> WorkerOptions {
    let app = folder().join("apps").join(class);
    let python_path = folder().join("python").display().to_string();
    let options = WorkerOptions::of("http", name, &format!("acme/{name}"));
    options
        .args(["--fal", app.to_str().unwrap(), "--python", &python()])
        .env("WARMQ_URL", system.router.url())
        .env("PYTHONPATH", python_path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HF_HOME", hub)
        .env("HF_HUB_OFFLINE", "1")
}

/// Starts a worker, and waits until one of its runners is idle.
async fn started(system: &System, options: WorkerOptions) -> Worker {
    let app = options.app.clone();
    let worker = system.worker(options).await;
    system
        .until(&format!("{app} takes jobs"), START, async || {
            let runners = system.runners(&app).await;
            runners.iter().any(|runner| runner.idle).then_some(())
        })
        .await;
    worker
}

/// Runs a job and returns its output.
async fn run(system: &System, app: &str, input: Value) -> Value {
    let path = format!("/run/{app}");
    let response = system
        .http(Method::POST, &path, &[], input.to_string())
        .await;
    let (status, body) = (response.status, response.body);
    assert!(status.is_success(), "{app}: {status}: {body}");
    body
}

async fn ended(system: &System, app: &str, hint: &str, input: Value) -> JobRecord {
    let id = system.submit_to(app, hint, input).await;
    let job = system.ended(id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    job
}

/// Checks that a URL of an answer leads to a picture that this router stores.
async fn assert_is_picture(system: &System, picture: &Value, sides: (u64, u64)) {
    assert_eq!(
        (picture["width"].as_u64(), picture["height"].as_u64()),
        (Some(sides.0), Some(sides.1)),
        "{picture}"
    );
    let url = picture["url"].as_str().unwrap();
    let path = url.strip_prefix(system.router.url()).unwrap();
    let bytes = system.get(path).await.bytes;
    assert!(bytes.starts_with(b"\xff\xd8") || bytes.starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn hints_of_an_app_with_many_models_lead_jobs_to_the_runner_that_has_theirs() {
    const APP: &str = "acme/many";
    let system = System::with_config("[apps.'acme/many']\nhint_from = 'input.model'").await;
    let hub = hub(&system).await;
    let options = |name: &str| WorkerOptions {
        name: name.to_owned(),
        ..class(&system, "many", "many_models.py::ManyModels", &hub)
    };
    let _workers = [
        started(&system, options("a")).await,
        system.worker(options("b")).await,
    ];
    let both_idle = async || {
        let runners = system.runners(APP).await;
        (runners.iter().filter(|runner| runner.idle).count() == 2).then_some(())
    };
    system.until("both are idle", START, both_idle).await;
    let device = &system.runners(APP).await[0].device;
    assert_eq!(device, "GPU-A100");

    let input = |model: &str| json!({"model": model, "prompt": "a cat"});
    let first = ended(&system, APP, "", input(SDXL)).await;
    let output = first.output.clone().unwrap();
    assert_is_picture(&system, &output["image"], (64, 64)).await;
    ended(&system, APP, "", input(FLUX)).await;
    for model in [SDXL, FLUX, FLUX, SDXL] {
        let job = ended(&system, APP, "", input(model)).await;
        assert!(job.timings.unwrap().warm, "{model} was loaded again");
    }
    let mut held: Vec<String> = Vec::new();
    for runner in system.runners(APP).await {
        held.extend(runner.hints.into_iter().map(String::from));
    }
    held.sort();
    assert_eq!(held, [FLUX, SDXL]);

    // The app's own schema refuses it at the door.
    let refused = system
        .http(Method::POST, "/queue/acme/many", &[], r#"{"model": "m"}"#)
        .await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(refused.body["detail"][0]["loc"], json!(["body", "prompt"]));
    system.cleanup().await;
}

#[tokio::test]
async fn a_router_app_sends_large_pictures_to_the_larger_machine() {
    let system = System::start().await;
    let hub = hub(&system).await;
    let app = |name, of| class(&system, name, of, &hub);
    let _workers = [
        started(&system, app("small", "by_size.py::SmallPictures")).await,
        started(&system, app("large", "by_size.py::LargePictures")).await,
        started(&system, app("router", "by_size.py::SizeRouter")).await,
    ];
    for (side, machine) in [(64, "small"), (136, "large")] {
        let input = json!({"prompt": "a cat", "width": side, "height": side});
        let output = run(&system, "acme/router", input).await;
        assert_eq!(output["machine"], machine);
        assert_is_picture(&system, &output["image"], (side, side)).await;
    }
    // Plain arguments are fields of a JSON body, checked at the door.
    let wrong = system
        .http(Method::POST, "/queue/acme/small", &[], r#"{"width": 1}"#)
        .await;
    assert_eq!(wrong.body["detail"][0]["loc"], json!(["body", "prompt"]));
    system.cleanup().await;
}

#[tokio::test]
async fn router_apps_split_chain_fall_back_and_save_costs() {
    let system = System::start().await;
    let app = |name, of: &str| class(&system, name, &format!("routers.py::{of}"), "none");
    let _workers = [
        started(&system, app("backend", "Backend")).await,
        started(&system, app("ab", "ABTest")).await,
        started(&system, app("pipeline", "Pipeline")).await,
        started(&system, app("fallback", "Fallback")).await,
        started(&system, app("cost", "Cost")).await,
    ];
    let backends = system.runners("acme/backend").await.len();
    assert_eq!(backends, 8, "max_multiplexing is the number of runners");

    let input = json!({"prompt": "a cat"});
    let runs = (0..40).map(|_| run(&system, "acme/ab", input.clone()));
    let versions: Vec<String> = (join_all(runs).await.iter())
        .map(|output| {
            assert_eq!(output["version"], output["model_version"]);
            output["model_version"].as_str().unwrap().to_owned()
        })
        .collect();
    let first = versions.iter().filter(|version| *version == "v1").count();
    // Fewer or more happen once in a million runs.
    assert!((19..=40).contains(&first), "{first} of 40 are of v1");

    let output = run(&system, "acme/pipeline", input.clone()).await;
    assert_eq!(output, json!({"text": "A CAT"}));
    let output = run(&system, "acme/fallback", json!({"prompt": "impossible"})).await;
    assert_eq!(output["version"], "fallback");
    for (steps, version) in [(4, "cheap"), (50, "dear")] {
        let input = json!({"prompt": "a cat", "steps": steps});
        assert_eq!(run(&system, "acme/cost", input).await["version"], version);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_router_app_submits_with_the_key_of_its_worker() {
    let key = format!("root:{}", "ab".repeat(32));
    let system = System::with_config(&format!("admin_key = '{key}'")).await;
    let app = |name, of: &str| class(&system, name, &format!("routers.py::{of}"), "none");
    let _workers = [
        started(&system, app("backend", "Backend")).await,
        started(&system, app("cost", "Cost").env("WARMQ_KEY", &key)).await,
    ];
    let authorization = format!("Key {key}");
    let headers = [("authorization", authorization.as_str())];
    let input = json!({"prompt": "a cat"}).to_string();
    let response = system
        .http(Method::POST, "/run/acme/cost", &headers, input)
        .await;
    assert_eq!(response.body["version"], "cheap", "{}", response.status);
    system.cleanup().await;
}

#[tokio::test]
async fn an_app_that_cannot_run_says_why() {
    let system = System::start().await;
    for (name, of, reason) in [
        ("raises", "broken.py::Raises", "the weights are missing"),
        (
            "endless",
            "broken.py::WithoutEndpoints",
            "at least one route",
        ),
        (
            "typo",
            "broken.py::Rises",
            "it has: Raises, WithoutEndpoints",
        ),
        (
            "import",
            "missing_import.py::App",
            "a_package_that_nobody_has",
        ),
        ("nofile", "no_such_file.py::App", "does not exist"),
    ] {
        let worker = system.worker(class(&system, name, of, "none")).await;
        let app = format!("acme/{name}");
        let what = format!("{name} is listed with its reason");
        let listed = async || {
            let runner = system.runners(&app).await.pop()?;
            runner.fault?.contains(reason).then_some(())
        };
        system.until(&what, START, listed).await;
        if name == "raises" {
            let log = std::fs::read_to_string(worker.log()).unwrap();
            assert!(log.contains("Traceback"), "{log}");
        }
    }
    // A Python without the package.
    let mut options = class(&system, "bare", "broken.py::Raises", "none");
    options
        .args
        .retain(|arg| *arg != "--python" && *arg != python());
    let _worker = system.worker(options).await;
    let listed = async || {
        let runner = system.runners("acme/bare").await.pop()?;
        runner.fault?.contains("pip install fal").then_some(())
    };
    system.until("fal is missing", START, listed).await;
    system.cleanup().await;
}

#[tokio::test]
async fn fifty_requests_at_a_time_pass_through_one_router_app() {
    const JOBS: u32 = 50;
    let system = System::start().await;
    let app = |name, of: &str| class(&system, name, &format!("routers.py::{of}"), "none");
    let backend = WorkerOptions {
        app: "acme/backend".to_owned(),
        ..app("waits", "Waits")
    };
    let _workers = [
        started(&system, backend).await,
        started(&system, app("pipeline", "ABTest")).await,
    ];
    let begun = Instant::now();
    let runs = (0..JOBS).map(|index| {
        let input = json!({"prompt": index.to_string()});
        run(&system, "acme/pipeline", input)
    });
    let outputs = join_all(runs).await;
    for (index, output) in outputs.iter().enumerate() {
        assert_eq!(output["text"], index.to_string());
    }
    // One at a time, the backend alone would take 2.5 s.
    println!(
        "{JOBS} requests through a router app: {:?}",
        begun.elapsed()
    );
    system.cleanup().await;
}
