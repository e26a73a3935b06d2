//! Routes of several steps: each step is a job that receives earlier outputs, and the whole is one
//! submission.

use lapin::BasicProperties;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next};
use warmq_tests::metrics::Page;
use warmq_tests::system::TIMEOUT;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

/// Three steps; the timed engine returns the output that its input contains.
const PIPELINE: &str = r#"
    [apps."acme/add"]
    hint_from = "input.model"
    [apps."acme/double"]
    [apps."acme/v1"]
    [apps."acme/v2"]

    [routes."acme/pipeline"]
    kind = "sequence"
    steps = [
      { name = "add", app = "acme/add", input = { output = { n = "input.n + 1" }, run_ms = "input.run_ms", load_ms = 0, model = "'adder'" } },
      { name = "double", app = "acme/double", input = { output = { n = "steps.add.output.n * 2" }, run_ms = "input.run_ms" } },
      { name = "version", app = "acme/ab", input = { output = { n = "steps.double.output.n", was = "input.n" }, run_ms = 1, fail = "input.?fail" } },
    ]

    [routes."acme/ab"]
    kind = "split"
    to = [{ app = "acme/v1", weight = 1 }, { app = "acme/v2", weight = 1 }]
    by = "input.output.was"

    [routes."acme/front"]
    kind = "switch"
    rules = [{ when = "input.n > 100", to = "acme/v1" }]
    default = "acme/pipeline"
"#;

/// Fallbacks by speed, failure and absence of runners.
const FALLBACKS: &str = r#"
    [apps."acme/first"]
    [apps."acme/second"]
    [apps."acme/third"]

    [routes."acme/safe"]
    kind = "fallback"
    to = [
      { app = "acme/first", timeout = "1500ms", input = { run_ms = "input.first_ms", fail = "input.?first_fails", output = { by = 1 } } },
      { app = "acme/second", input = { run_ms = 1, fail = "input.?second_fails", output = { by = 2 } } },
    ]

    [routes."acme/safer"]
    kind = "fallback"
    to = ["acme/safe", { app = "acme/third", input = { run_ms = 1, output = { by = 3 } } }]
"#;

fn pipeline(n: i64, run_ms: u64) -> Value {
    json!({"n": n, "run_ms": run_ms})
}

async fn pipeline_system() -> (System, Vec<Worker>) {
    let system = System::with_config(PIPELINE).await;
    let mut workers = Vec::new();
    for app in ["add", "double", "v1", "v2"] {
        let options = WorkerOptions::timed(app, &format!("acme/{app}"));
        workers.push(system.worker(options).await);
    }
    (system, workers)
}

async fn submit(system: &System, to: &str, input: Value) -> JobId {
    system.post(to, &[], &input.to_string()).await.job_id()
}

/// Returns the record of step `n` (from 0).
async fn step(system: &System, flow: &JobRecord, n: usize) -> JobRecord {
    system.job(flow.flow.as_ref().unwrap().steps[n].job).await
}

#[tokio::test]
async fn each_step_receives_earlier_outputs_and_the_last_output_is_the_result() {
    let (system, _workers) = pipeline_system().await;
    let id = submit(&system, "acme/pipeline", pipeline(3, 5)).await;
    let flow = system.succeeded(id).await;
    let result = system
        .get(&format!("/queue/acme/pipeline/requests/{id}"))
        .await;
    let version = step(&system, &flow, 2).await.spec.app;
    let expected = json!({"n": 8, "was": 3, "model_version": version});
    assert_eq!((result.status, &result.body), (StatusCode::OK, &expected));
    assert_eq!(flow.output, Some(expected));

    // Its steps are jobs with their own hints.
    let names: Vec<&str> = (flow.flow.as_ref().unwrap().steps.iter())
        .map(|step| step.name.as_str())
        .collect();
    assert_eq!(names, ["add", "double", "version"]);
    let first = step(&system, &flow, 0).await;
    assert_eq!(first.spec.hint.as_ref().unwrap().as_str(), "adder");
    let of = first.spec.step_of.unwrap();
    assert_eq!(
        (of.flow, of.route.as_str(), of.index),
        (id, "acme/pipeline", 0)
    );
    assert_eq!(step(&system, &flow, 1).await.spec.hint, None);
    assert_eq!(step(&system, &flow, 2).await.spec.route.len(), 1);

    // The log has the lines of all steps, and the timings add up.
    let path = format!("/queue/acme/pipeline/requests/{id}/status?logs=1");
    let status = system.get(&path).await;
    assert_eq!(
        (status.status, &status.body["status"]),
        (StatusCode::OK, &"COMPLETED".into())
    );
    let lines: Vec<&str> = (status.body["logs"].as_array().unwrap().iter())
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    for reported in [
        "step double (2 of 3) is begun: acme/double",
        "step add succeeded",
        "sent to add: no runner had 'adder'",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(reported)),
            "{reported}: {lines:#?}"
        );
    }
    let runs: u64 = [0, 1, 2]
        .iter()
        .map(|n| {
            flow.flow.as_ref().unwrap().steps[*n]
                .end
                .as_ref()
                .unwrap()
                .timings
                .unwrap()
                .run_ms
        })
        .sum();
    assert_eq!(flow.timings.unwrap().run_ms, runs);
    // No intermediate data is left.
    let left = system
        .testbed
        .store()
        .flows()
        .get(&flow.spec.app, id)
        .await
        .unwrap()
        .unwrap();
    assert!(left.excerpt.is_empty() && left.outputs.is_empty());
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_is_routed_awaited_and_replied_to_like_a_job() {
    let (system, _workers) = pipeline_system().await;
    let run = |n: i64| {
        let input = pipeline(n, 1).to_string();
        system.http(Method::POST, "/run/acme/front", &[], input)
    };
    let ran = run(4).await;
    assert_eq!(
        (ran.status, &ran.body["n"]),
        (StatusCode::OK, &json!(10)),
        "{:?}",
        ran.body
    );
    let id: JobId = ran.headers["x-fal-request-id"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let record = system.job(id).await;
    assert_eq!(record.spec.submitted_to().as_str(), "acme/front");
    assert_eq!(record.spec.app.as_str(), "acme/pipeline");

    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let job = JobId::generate();
    let properties = BasicProperties::default()
        .with_message_id(job.to_string().into())
        .with_reply_to(DIRECT_REPLY_TO.into());
    for _ in 0..2 {
        user.submit(
            "acme/front",
            &pipeline(5, 1).to_string(),
            properties.clone(),
        )
        .await;
    }
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(
        (&reply["payload"]["n"], &reply["request_id"]),
        (&json!(12), &json!(job))
    );

    // It is documented like an app.
    let paths = system.get("/openapi.json").await.body["paths"].clone();
    assert!(
        paths["/queue/acme/front"]["post"].is_object()
            && paths["/run/acme/pipeline"]["post"].is_object()
    );

    // Under one idempotency key it is one flow.
    let key = [("idempotency-key", "order-7")];
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = system
            .post("acme/pipeline", &key, &pipeline(6, 1).to_string())
            .await;
        ids.push(answer.body["request_id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    system.cleanup().await;
}

#[tokio::test]
async fn status_and_stream_report_the_step_and_its_progress() {
    let (system, _workers) = pipeline_system().await;
    let id = submit(&system, "acme/pipeline", pipeline(1, 700)).await;
    let path = format!("/queue/acme/pipeline/requests/{id}/status");
    let in_second = system
        .until("the second step runs", TIMEOUT, async || {
            let status = system.get(&path).await.body;
            let step = status["steps"][0].clone();
            (step["name"] == "double" && step["status"] == "IN_PROGRESS").then_some((status, step))
        })
        .await;
    let (status, step) = in_second;
    assert_eq!(
        (&step["number"], &step["of"], &step["app"]),
        (&json!(2), &json!(3), &json!("acme/double"))
    );
    assert_eq!(status["status"], "IN_PROGRESS");

    let id = submit(&system, "acme/pipeline", pipeline(1, 1_000)).await;
    let stream = system
        .get(&format!("/queue/acme/pipeline/requests/{id}/status/stream"))
        .await;
    let events: Vec<Value> = String::from_utf8(stream.bytes)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    for step in ["add", "double"] {
        let progress = events
            .iter()
            .filter(|event| event["steps"][0]["name"] == step);
        let progress = progress.filter(|event| event["progress"]["step"].as_u64() > Some(0));
        assert!(progress.count() > 0, "{step}: {events:#?}");
    }
    let words: Vec<&Value> = events.iter().map(|event| &event["status"]).collect();
    let first_run = words
        .iter()
        .position(|word| **word == "IN_PROGRESS")
        .unwrap();
    assert!(
        !words[first_run..].contains(&&json!("IN_QUEUE")),
        "{words:?}"
    );
    assert_eq!(words.last(), Some(&&json!("COMPLETED")));
    system.cleanup().await;
}

#[tokio::test]
async fn a_step_that_fails_ends_the_flow_with_its_error_and_its_name() {
    let (system, _workers) = pipeline_system().await;
    let mut input = pipeline(1, 1);
    input["fail"] = "no luck".into();
    let id = submit(&system, "acme/pipeline", input).await;
    let flow = system.ended(id).await;
    assert_eq!(flow.state, JobState::Failed);
    let result = system
        .get(&format!("/queue/acme/pipeline/requests/{id}"))
        .await;
    assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = flow.error.unwrap().message;
    assert!(
        message.starts_with("step version: ") && message.contains("no luck"),
        "{message}"
    );

    // Errors that are known at submit are returned by submit.
    let refused = system.post("acme/pipeline", &[], r#"{"run_ms": 1}"#).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{:?}",
        refused.body
    );
    let reported = refused.body["detail"][0]["msg"].as_str().unwrap();
    assert!(
        reported.contains("step add") && reported.contains("'n'"),
        "{reported}"
    );
    let refused = system
        .post(
            "acme/pipeline",
            &[],
            &json!({"n": 1, "run_ms": -5}).to_string(),
        )
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.body["detail"][0]["loc"], json!(["body", "run_ms"]));
    system.cleanup().await;
}

#[tokio::test]
async fn cancelling_a_flow_cancels_its_running_step_and_starts_no_other() {
    let (system, _workers) = pipeline_system().await;
    let id = submit(&system, "acme/pipeline", pipeline(1, 60_000)).await;
    let running = async || {
        let flow = system.job(id).await;
        let step = flow.flow.unwrap().steps.first()?.job;
        let step = system.testbed.store().jobs().job(step).await.unwrap()?;
        (step.state == JobState::Running).then_some(step.spec.id)
    };
    let first = system.until("the first step runs", TIMEOUT, running).await;
    let path = format!("/queue/acme/pipeline/requests/{id}/cancel");
    let cancelled = system.http(Method::PUT, &path, &[], "").await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED);
    system.reached(first, JobState::Cancelled).await;
    let flow = system.reached(id, JobState::Cancelled).await;
    assert_eq!(flow.flow.unwrap().steps.len(), 1);
    system.all_idle("acme/add").await;

    // Cancelling a step cancels its flow.
    let id = submit(&system, "acme/pipeline", pipeline(1, 60_000)).await;
    let step = system
        .until("the first step is there", TIMEOUT, async || {
            let step = system.job(id).await.flow.unwrap().steps.first()?.job;
            system.testbed.store().jobs().job(step).await.unwrap()
        })
        .await;
    let path = format!("/v1/jobs/{}", step.spec.id);
    assert_eq!(
        system.http(Method::DELETE, &path, &[], "").await.status,
        StatusCode::OK
    );
    system.reached(id, JobState::Cancelled).await;
    system.cleanup().await;
}

#[tokio::test]
async fn the_next_choice_is_tried_after_a_failure_a_timeout_or_without_runners() {
    let system = System::with_config(FALLBACKS).await;
    let by = async |to: &str, input: Value| {
        let flow = system.succeeded(submit(&system, to, input).await).await;
        (
            flow.output.clone().unwrap()["by"].as_u64().unwrap(),
            flow.flow.unwrap(),
        )
    };
    let third = WorkerOptions::timed("third", "acme/third");
    let _third = system.worker(third).await;
    // The first two have no runners.
    let (who, flow) = by("acme/safer", json!({"first_ms": 1})).await;
    assert_eq!(who, 3);
    assert_eq!(
        flow.steps[0].reason.as_deref(),
        Some("acme/safe has no runner")
    );

    let _second = system
        .worker(WorkerOptions::timed("second", "acme/second"))
        .await;
    let (who, flow) = system
        .until(
            "it is known that the second has a runner",
            TIMEOUT,
            async || {
                let (who, flow) = by("acme/safer", json!({"first_ms": 1})).await;
                (who == 2).then_some((who, flow))
            },
        )
        .await;
    assert_eq!((who, flow.steps[0].to.as_str()), (2, "acme/safe"));

    let _first = system
        .worker(WorkerOptions::timed("first", "acme/first"))
        .await;
    system
        .until(
            "it is known that the first has a runner",
            TIMEOUT,
            async || (by("acme/safe", json!({"first_ms": 1})).await.0 == 1).then_some(()),
        )
        .await;
    let (who, flow) = by("acme/safe", json!({"first_ms": 1, "first_fails": "broken"})).await;
    assert_eq!(who, 2);
    let reason = flow.steps[1].reason.clone().unwrap();
    assert!(
        reason.starts_with("acme/first failed: ") && reason.contains("broken"),
        "{reason}"
    );

    let (who, flow) = by("acme/safe", json!({"first_ms": 60_000})).await;
    assert_eq!(who, 2);
    let reason = flow.steps[1].reason.as_deref();
    assert_eq!(
        reason,
        Some("acme/first was given up: it did not end within 1.5 s")
    );
    system.reached(flow.steps[0].job, JobState::Cancelled).await;

    // A flow within a flow: both of its choices fail, so the third is tried.
    let (who, flow) = by(
        "acme/safer",
        json!({"first_ms": 1, "first_fails": "a", "second_fails": "b"}),
    )
    .await;
    assert_eq!((who, flow.steps.len()), (3, 2));
    let page = Page::read(&String::from_utf8(system.get("/metrics").await.bytes).unwrap());
    let given_up = [
        ("route", "acme/safe"),
        ("step", "acme/first"),
        ("outcome", "given_up"),
    ];
    assert_eq!(page.get("warmq_flow_steps_total", &given_up), Some(1.0));
    let succeeded = [("route", "acme/safe"), ("outcome", "succeeded")];
    assert!(page.get("warmq_flows_total", &succeeded) >= Some(3.0));
    let last = system
        .post(
            "acme/safe",
            &[],
            &json!({"first_ms": 1, "first_fails": "a", "second_fails": "b"}).to_string(),
        )
        .await;
    let last = system.ended(last.job_id()).await;
    let message = last.error.unwrap().message;
    assert!(
        message.starts_with("acme/second: ") && message.contains('b'),
        "{message}"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn the_next_choice_is_tried_when_all_runners_left() {
    let system = System::with_config(FALLBACKS).await;
    let mut first = system
        .worker(WorkerOptions::timed("first", "acme/first"))
        .await;
    let _third = system
        .worker(WorkerOptions::timed("third", "acme/third"))
        .await;
    // The only runner is busy, so the next job waits for it.
    let busy = submit(&system, "acme/first", json!({"run_ms": 60_000})).await;
    system.reached(busy, JobState::Running).await;
    let id = submit(&system, "acme/safer", json!({"first_ms": 1})).await;
    system
        .until("it waits for the first", TIMEOUT, async || {
            let flow = system.job(id).await.flow.unwrap();
            (flow.steps.first()?.to.as_str() == "acme/safe").then_some(())
        })
        .await;
    first.kill9().await.unwrap();
    let flow = system.ended_within(id, TIMEOUT * 2).await;
    assert_eq!(flow.output.unwrap()["by"], 3, "{:#?}", flow.flow);
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_ends_on_the_version_that_it_began_with() {
    let (system, _workers) = pipeline_system().await;
    let id = submit(&system, "acme/pipeline", pipeline(3, 1_000)).await;
    system
        .until("its first step runs", TIMEOUT, async || {
            let step = system.job(id).await.flow.unwrap().steps.first()?.job;
            let step = system.testbed.store().jobs().job(step).await.unwrap()?;
            (step.state == JobState::Running).then_some(())
        })
        .await;
    // The pipeline has changed, and the route of its third step is gone.
    let toml = r#"
        [apps."acme/add"]
        [routes."acme/pipeline"]
        kind = "sequence"
        steps = [{ name = "only", app = "acme/add", input = { output = "'new'", run_ms = 1 } }]
    "#;
    std::fs::write(system.testbed.folder().join("warmq.toml"), toml).unwrap();
    let reloaded = system
        .http(Method::POST, "/v1/config/reload", &[], "")
        .await;
    assert_eq!(reloaded.status, StatusCode::OK, "{:?}", reloaded.body);
    let new = system.succeeded(submit(&system, "acme/pipeline", json!({})).await);
    assert_eq!(new.await.output, Some(json!("new")));
    let old = system.succeeded(id).await;
    assert_eq!(old.output.unwrap()["n"], 8);
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_that_did_not_start_in_time_expires_as_a_whole() {
    let system = System::with_config(PIPELINE).await;
    // The app has no runners.
    let timeout = [("x-fal-request-timeout", "1")];
    let answer = system
        .post("acme/pipeline", &timeout, &pipeline(1, 1).to_string())
        .await;
    let id = answer.job_id();
    let flow = system.ended(id).await;
    assert_eq!(flow.state, JobState::Expired);
    let result = system
        .get(&format!("/queue/acme/pipeline/requests/{id}"))
        .await;
    assert_eq!(result.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(result.headers["x-fal-request-timeout-type"], "user");
    system.cleanup().await;
}
