//! Any model server takes part: the examples in deploy/examples/servers run behind the queue, as
//! processes of a worker, and the adapters call stand-ins that speak their servers' APIs.

mod stand_ins;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::{Program, System};

use self::stand_ins::StandIn;

const APP: &str = "acme/model";

/// Timeout for the start of a server on a busy machine.
const START: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn example(name: &str) -> String {
    let path = root().join("deploy/examples/servers").join(name);
    path.canonicalize().unwrap().display().to_string()
}

/// Starts a worker that starts a server, and waits until its runner is idle.
async fn spawned(system: &System, command: &str) -> Worker {
    let options = WorkerOptions::of("http", "a", APP).args(["--spawn", command]);
    let worker = system.worker(options).await;
    system
        .until("the server is ready", START, async || {
            let runners = system.runners(APP).await;
            runners.iter().any(|runner| runner.idle).then_some(())
        })
        .await;
    worker
}

/// Runs a job and returns its output.
async fn run(system: &System, input: Value) -> Value {
    let path = format!("/run/{APP}");
    let response = system
        .http(Method::POST, &path, &[], input.to_string())
        .await;
    assert!(
        response.status.is_success(),
        "{}: {}",
        response.status,
        response.body
    );
    response.body
}

/// Returns the content of the file at a signed URL of the router.
async fn content(system: &System, url: &Value) -> Vec<u8> {
    let path = url
        .as_str()
        .unwrap()
        .strip_prefix(system.router.url())
        .unwrap();
    system.get(path).await.bytes
}

async fn hints(system: &System) -> Vec<String> {
    let runner = system.runners(APP).await.pop().unwrap();
    runner.hints.into_iter().map(String::from).collect()
}

/// Waits until the runner reports these hints.
async fn until_hints(system: &System, expected: &[&str]) {
    system
        .until(&format!("the hints are {expected:?}"), START, async || {
            (hints(system).await == expected).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_server_in_pythons_standard_library() {
    let system = System::start().await;
    let command = format!("python3 {} {{port}}", example("stdlib.py"));
    let worker = spawned(&system, &command).await;
    let output = run(&system, json!({"prompt": "hello"})).await;
    assert_eq!(output, json!({"text": "HELLO"}));
    until_hints(&system, &["upper"]).await;

    let log = std::fs::read_to_string(worker.log()).unwrap();
    assert!(
        log.contains("model server: "),
        "its output is in the log: {log}"
    );
    let (_, pid) = log.split_once("started the model server pid=").unwrap();
    let pid: u32 = pid.split_whitespace().next().unwrap().parse().unwrap();
    drop(worker);
    let ended = async || {
        // Empty once it is a zombie.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.is_empty().then_some(())
    };
    let what = "the server ends with a worker that was killed";
    system.until(what, START, ended).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_server_in_node_streams_its_events_to_the_client() {
    let system = System::start().await;
    let _worker = spawned(&system, &format!("node {} {{port}}", example("node.mjs"))).await;
    let input = json!({"prompt": "abc", "model": "m1"}).to_string();
    let path = format!("/run/{APP}/stream");
    let response = system.http(Method::POST, &path, &[], input).await;
    let text = String::from_utf8(response.bytes).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = events
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| event["step"].as_u64())
        .collect();
    assert_eq!(steps, [1, 2, 3], "{text}");
    assert_eq!(
        events.last().unwrap(),
        &json!({"model": "m1", "text": "cba"})
    );
    for model in ["m2", "m3"] {
        run(&system, json!({"prompt": "x", "model": model})).await;
    }
    until_hints(&system, &["m2", "m3"]).await;
    let path = format!("/run/{APP}");
    let refused = system.http(Method::POST, &path, &[], "{}").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.body["detail"][0]["loc"], json!(["body", "prompt"]));
    system.cleanup().await;
}

/// The packages of the hub's pipelines need gigabytes: stand-ins of `torch` and `diffusers` write
/// what they would draw. FastAPI and the example are real.
#[tokio::test]
async fn pipelines_in_an_lru_cache_behind_fastapi() {
    let system = System::with_config(&format!("[apps.'{APP}']\nhint_from = 'input.model'")).await;
    let python = root().join(".venv/bin/python").display().to_string();
    let stand_ins = root().join("tests/it/model_servers_work/python");
    let stand_ins = stand_ins.canonicalize().unwrap();
    let command = format!(
        "env PYTHONPATH={} {python} {} {{port}}",
        stand_ins.display(),
        example("fastapi_lru.py")
    );
    let _worker = spawned(&system, &command).await;
    for model in ["hub/a", "hub/b", "hub/c"] {
        let output = run(&system, json!({"prompt": "cat", "model": model})).await;
        let picture = content(&system, &output["images"][0]["url"]).await;
        assert_eq!(picture, format!("PNG of {model}: cat").as_bytes());
    }
    until_hints(&system, &["hub/b", "hub/c"]).await;
    let path = format!("/run/{APP}");
    let refused = system
        .http(Method::POST, &path, &[], json!({"prompt": "x"}).to_string())
        .await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["detail"][0]["type"]),
        (422, &json!("missing"))
    );
    system.cleanup().await;
}

#[tokio::test]
async fn automatic1111s_web_ui() {
    let system = System::start().await;
    let ui = StandIn::a1111().await;
    let command = format!("python3 {} {{port}} {}", example("a1111.py"), ui.url);
    let _worker = spawned(&system, &command).await;
    let input = json!({"prompt": "cat", "model": "dreamshaper", "num_images": 2, "steps": 4});
    let output = run(&system, input).await;
    assert_eq!(output["images"].as_array().unwrap().len(), 2);
    let picture = content(&system, &output["images"][1]["url"]).await;
    assert_eq!(picture, b"PNG of dreamshaper: cat");
    until_hints(&system, &["dreamshaper"]).await;
    system.cleanup().await;
}

#[tokio::test]
async fn openais_images_api() {
    let system = System::start().await;
    let server = StandIn::openai().await;
    let command = format!(
        "python3 {} {{port}} {}",
        example("openai_images.py"),
        server.url
    );
    let _worker = spawned(&system, &command).await;
    let size = json!({"width": 64, "height": 32});
    let input = json!({"prompt": "cat", "model": "sd", "num_images": 2, "image_size": size});
    let output = run(&system, input).await;
    let picture = content(&system, &output["images"][1]["url"]).await;
    assert_eq!(picture, b"PNG of sd: cat, 64x32");
    system.cleanup().await;
}

#[tokio::test]
async fn comfyuis_workflows() {
    let system = System::start().await;
    let comfy = StandIn::comfyui().await;
    let workflow = root()
        .join("tests/it/model_servers_work/workflow.json")
        .canonicalize()
        .unwrap();
    let workflow = workflow.display();
    let command = format!(
        "python3 {} {{port}} {} {workflow}",
        example("comfyui.py"),
        comfy.url
    );
    let _worker = spawned(&system, &command).await;
    let output = run(
        &system,
        json!({"prompt": "cat", "model": "xl.safetensors", "seed": 7}),
    )
    .await;
    let picture = content(&system, &output["images"][0]["url"]).await;
    assert_eq!(picture, b"PNG of xl.safetensors: cat, seed 7");
    let path = format!("/run/{APP}");
    let fails = json!({"prompt": "fail"}).to_string();
    let failed = system.http(Method::POST, &path, &[], fails).await;
    assert_eq!(failed.status, 500);
    assert!(
        failed.body["detail"]
            .as_str()
            .unwrap()
            .contains("out of memory"),
        "{}",
        failed.body
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_check_prints_what_a_server_has_and_fails_for_one_that_breaks_the_protocol() {
    let server = StandIn::openai().await;
    let check = async |url: &str, args: &[&str]| {
        let command = ["http", "check", url];
        Program::new("warmq-worker", &[&command, args].concat())
            .run()
            .await
    };
    let passing = check(
        &server.url,
        &["--path", "/v1/images/generations", "--input", "{}"],
    )
    .await;
    assert_eq!(passing.code, Some(0), "{}{}", passing.out, passing.err);
    assert!(
        passing.out.contains("job") && passing.out.contains("passed"),
        "{}",
        passing.out
    );
    assert!(passing.out.contains("optional"), "{}", passing.out);
    let broken = check(&server.url, &["--path", "/broken"]).await;
    assert_eq!(broken.code, Some(1), "{}", broken.out);
    assert!(
        broken.out.contains("FAILED") && broken.out.contains("text/html"),
        "{}",
        broken.out
    );
    let dead = check("http://127.0.0.1:1", &[]).await;
    assert_eq!(dead.code, Some(1));
    assert!(dead.out.contains("cannot be reached"), "{}", dead.out);
    let wrong = check("127.0.0.1", &[]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
}
