//! An input too large for messages and records is stored as an object and shown, run, repeated and
//! expired like any other. An input too large for any message is refused.

use std::path::{Path, PathBuf};

use lapin::BasicProperties;
use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_testkit::{PrivateRabbit, Testbed, WorkerOptions, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::job::{JobRecord, MAX_INLINE_INPUT_BYTES};
use warmq_types::state::JobState;

/// The app is declared, so that jobs can wait without a worker.
const DECLARED: &str = "[apps.'bench/timed']\nhint_from = 'input.output.model'";

/// Returns an input of 300 KiB, which the timed engine returns.
fn large(text: &str) -> Value {
    let text = text.repeat(300 * 1024 / text.len());
    json!({"run_ms": 1, "load_ms": 1, "output": {"model": "m", "text": text}})
}

/// Returns the stored inputs.
fn stored(system: &System) -> Vec<PathBuf> {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    files(&system.testbed.folder().join("files/.inputs"), &mut found);
    found
}

async fn none_is_stored(system: &System) {
    let none = async || stored(system).is_empty().then_some(());
    eventually("no input is stored", TIMEOUT, none)
        .await
        .unwrap();
}

async fn submit(system: &System, headers: &[(&str, &str)], input: &Value) -> JobId {
    system
        .post(TIMED, headers, &input.to_string())
        .await
        .job_id()
}

/// Asserts that neither record nor message contains the input.
fn assert_is_small(record: &JobRecord) {
    assert_eq!(record.spec.input, Value::Null);
    let stored = record.spec.stored_input.as_ref().unwrap();
    assert!(stored.bytes > MAX_INLINE_INPUT_BYTES as u64, "{stored:?}");
    assert!(serde_json::to_vec(&record.spec).unwrap().len() < 4096);
}

#[tokio::test]
async fn a_large_input_runs_is_shown_and_yields_its_hint() {
    let system = System::with_config(DECLARED).await;
    let input = large("http ");
    let by_http = submit(&system, &[], &input).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let by_amqp = JobId::generate();
    let body = large("amqp ").to_string();
    let properties = with_id(by_amqp, DIRECT_REPLY_TO);
    user.submit(TIMED, &body, properties).await;
    system
        .reached_once_recorded(by_amqp, JobState::Queued)
        .await;
    for id in [by_http, by_amqp] {
        let record = system.job(id).await;
        assert_is_small(&record);
        assert_eq!(record.spec.hint.unwrap().as_str(), "m");
    }
    let shown = system.get(&format!("/v1/jobs/{by_http}")).await.body;
    assert_eq!(shown["input"], input);
    assert_eq!(shown["stored_input"], Value::Null);

    let _worker = system.timed_worker("a").await;
    let ran = system.succeeded(by_http).await;
    assert_eq!(ran.output.as_ref(), Some(&input["output"]));
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["text"], large("amqp ")["output"]["text"]);
    assert_eq!(stored(&system).len(), 2);
    system.cleanup().await;
}

#[tokio::test]
async fn a_large_input_is_deleted_when_an_unstored_job_ends() {
    let system = System::with_config(DECLARED).await;
    let no_store = [("x-fal-store-io", "0")];
    let cancelled = submit(&system, &no_store, &large("cancelled ")).await;
    assert_eq!(stored(&system).len(), 1);
    let path = format!("/queue/{TIMED}/requests/{cancelled}/cancel");
    system.http(reqwest::Method::PUT, &path, &[], "").await;
    none_is_stored(&system).await;
    let _worker = system.timed_worker("a").await;
    let ran = submit(&system, &no_store, &large("ran ")).await;
    system.succeeded(ran).await;
    none_is_stored(&system).await;
    let shown = system.get(&format!("/v1/jobs/{ran}")).await.body;
    assert_eq!(shown["input"], Value::Null);
    system.cleanup().await;
}

#[tokio::test]
async fn a_refused_or_repeated_submission_leaves_no_stored_input() {
    let system = System::with_config(&format!("{DECLARED}\nmax_queue_length = 1")).await;
    let key = [("idempotency-key", "k")];
    let first = submit(&system, &key, &large("first ")).await;
    let [file] = stored(&system).try_into().unwrap();
    let full = system
        .post(TIMED, &[], &large("refused ").to_string())
        .await;
    assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
    for input in [large("first "), large("another ")] {
        assert_eq!(submit(&system, &key, &input).await, first);
    }
    assert_eq!(stored(&system), [file]);
    let _worker = system.timed_worker("a").await;
    let ran = system.succeeded(first).await;
    assert_eq!(ran.output, Some(large("first ")["output"].clone()));
    system.cleanup().await;
}

#[tokio::test]
async fn a_runner_that_cannot_read_a_stored_input_leaves_the_job_to_another() {
    let system = System::start().await;
    let elsewhere = system.testbed.folder().join("elsewhere");
    let storage = format!("--storage=file://{}", elsewhere.display());
    let bad = WorkerOptions::timed("bad", TIMED).args([storage]);
    let _bad = system.worker(bad).await;
    // Where no runner can read it, the last attempt has the reason.
    let once = submit(&system, &[("x-fal-no-retry", "1")], &large("lost ")).await;
    let failed = system.ended(once).await;
    let error = failed.error.unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (500, "runner_server_error")
    );
    assert!(error.message.contains("--storage"), "{}", error.message);

    let id = submit(&system, &[], &large("text ")).await;
    let tried = async || (system.job(id).await.attempt == 1).then_some(());
    eventually("the runner without it tried", TIMEOUT, tried)
        .await
        .unwrap();
    let _good = system.timed_worker("good").await;
    let ran = system.succeeded(id).await;
    assert_eq!(ran.runner.unwrap().as_str(), "good");
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_passes_large_inputs_and_outputs_to_its_steps() {
    let config = r#"
        [apps."bench/timed"]
        [routes."t/twice"]
        kind = "sequence"
        steps = [
          { name = "one", app = "bench/timed", input = { run_ms = 1, output = { text = "input.text" } } },
          { name = "two", app = "bench/timed", input = { run_ms = 1, output = { text = "steps.one.output.text + input.text" } } },
        ]
    "#;
    let system = System::with_config(config).await;
    let _worker = system.timed_worker("a").await;
    let text = "x".repeat(300 * 1024);
    let (no_store, body) = ([("x-fal-store-io", "0")], json!({"text": text}).to_string());
    let answer = system.post("t/twice", &no_store, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let id = answer.job_id();
    assert_is_small(&system.job(id).await);
    let flow = system.succeeded(id).await;
    assert_eq!(flow.output.unwrap()["text"], text.repeat(2));
    none_is_stored(&system).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_over_the_body_limit_is_refused_once() {
    let mut system = System::with_config(DECLARED).await;
    system.replace_router(&["--max-body", "1KiB"]).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let properties = BasicProperties::default().with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, large("text ").to_string(), properties)
        .await;
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(
        reply["payload"]["error_type"], "payload_too_large",
        "{reply}"
    );
    let error = reply["error"].as_str().unwrap();
    assert!(
        error.contains("--max-body") && error.contains("/storage/upload/initiate"),
        "{error}"
    );
    let dead = system.get(&format!("/v1/dead/{TIMED}")).await.body;
    assert_eq!(dead["letters"].as_array().unwrap().len(), 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_10_mb_data_uri_is_accepted_and_a_larger_one_is_refused_with_a_hint_to_upload() {
    let system = System::with_config(DECLARED).await;
    let uri = |bytes: usize| {
        let base64 = "A".repeat(bytes.div_ceil(3) * 4);
        json!({"run_ms": 1, "output": format!("data:image/png;base64,{base64}")})
    };
    let id = submit(&system, &[], &uri(10 << 20)).await;
    assert_is_small(&system.job(id).await);
    let refused = system.post(TIMED, &[], &uri(13 << 20).to_string()).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let advice = refused.body["detail"].as_str().unwrap();
    assert!(advice.contains("/storage/upload/initiate"), "{advice}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_over_the_brokers_limit_is_refused_without_retries() {
    let rabbit = PrivateRabbit::start(&["max_message_size = 50000"])
        .await
        .unwrap();
    let config = r#"
        [apps."bench/timed"]
        [routes."t/long"]
        kind = "sequence"
        steps = [
          { name = "one", app = "bench/timed", input = { run_ms = 1, output = { text = "input.text" } } },
          { name = "two", app = "bench/timed", input = { run_ms = 1, output = { text = "steps.one.output.text + steps.one.output.text" } } },
        ]
    "#;
    let testbed = Testbed::builder()
        .config(config)
        .amqp_url(rabbit.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 1, "output": "x".repeat(60_000)});
    let refused = system.post(TIMED, &[], &input.to_string()).await;
    assert_eq!(
        refused.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{:?}",
        refused.body
    );
    let reason = refused.body["detail"].as_str().unwrap();
    assert!(reason.contains("50000"), "{reason}");

    let text = json!({"text": "x".repeat(30_000)}).to_string();
    let flow = system.post("t/long", &[], &text).await;
    let id = flow.job_id();
    let failed = system.ended(id).await;
    let error = failed.error.unwrap();
    assert_eq!(
        (failed.state, error.status),
        (JobState::Failed, 413),
        "{error:?}"
    );
    assert!(error.message.starts_with("step two: "), "{}", error.message);
    system.succeeded(system.submit("m", 1).await).await;
    system.cleanup().await;
}
