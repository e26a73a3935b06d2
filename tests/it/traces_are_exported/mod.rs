//! A job's spans reach a collector of OpenTelemetry, from router and worker, in one trace.
//!
//! | file | contents |
//! | --- | --- |
//! | this one | the traces of jobs, flows and model servers |
//! | `collector` | a collector that keeps what it receives |

mod collector;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::routing::post;
use reqwest::Method;
use serde_json::json;
use warmq_testkit::WorkerOptions;
use warmq_tests::System;
use warmq_tests::amqp::{AmqpClient, with_header};
use warmq_tests::system::TIMED;
use warmq_types::ids::JobId;
use warmq_types::traceparent::Traceparent;

use self::collector::{Collector, Span};

/// Spans are exported every 5 s.
const EXPORTED: Duration = Duration::from_secs(30);

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

async fn traced(collector: &Collector, toml: &str) -> System {
    let setting = format!("otlp_endpoint = '{}'\n{toml}", collector.url);
    System::with_config(&setting).await
}

/// Returns the spans of a trace once `wanted` spans of these names have arrived.
async fn spans(
    system: &System,
    collector: &Collector,
    trace: &str,
    wanted: &[(&str, usize)],
) -> Vec<Span> {
    let complete = async || {
        let spans = collector.trace(trace);
        let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
        let is_complete = wanted.iter().all(|(name, wanted)| count(name) >= *wanted);
        is_complete.then_some(spans)
    };
    system.until("the spans arrive", EXPORTED, complete).await
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no span '{name}' in {spans:#?}"));
    assert!(found.next().is_none(), "'{name}' twice in {spans:#?}");
    span
}

fn id_of(job: JobId) -> String {
    job.to_string().replace('-', "")
}

#[tokio::test]
async fn one_trace_shows_submission_placement_load_steps_and_storing() {
    let collector = Collector::start().await;
    let system = traced(&collector, "").await;
    let (app, models) = (
        "warmq/diffusion",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models"),
    );
    let options = WorkerOptions::diffusion("painter", app, &models);
    let _worker = system.worker(options).await;
    let input = json!({"prompt": "a red circle", "seed": 1, "steps": 4}).to_string();
    let headers = [("traceparent", CALLER), ("x-fal-runner-hint", "shapes")];
    let job = system.post(app, &headers, &input).await.job_id();
    system.succeeded(job).await;

    let wanted = [("attempt", 1), ("dispatch", 1), ("submit", 1)];
    let spans = spans(&system, &collector, CALLERS_TRACE, &wanted).await;
    let submit = one(&spans, "submit");
    assert_eq!(
        (&*submit.parent, &*submit.service),
        (CALLERS_SPAN, "warmq-router")
    );
    assert_eq!(submit.attributes["warmq.job.id"], job.to_string());
    assert_eq!(submit.attributes["warmq.hint"], "shapes");
    let attempt = one(&spans, "attempt");
    assert_eq!(attempt.service, "warmq-worker");
    assert_eq!(attempt.attributes["warmq.outcome"], "succeeded");
    assert_eq!(attempt.attributes["warmq.warm"], "false");
    for name in ["hold", "dispatch", "attempt"] {
        assert_eq!(one(&spans, name).parent, submit.id, "{name}");
    }
    for name in ["load", "run", "store"] {
        assert_eq!(one(&spans, name).parent, attempt.id, "{name}");
    }
    let run = one(&spans, "run");
    assert_eq!(one(&spans, "decode").parent, run.id);
    let steps: Vec<&Span> = spans.iter().filter(|span| span.name == "step").collect();
    let numbers: BTreeSet<&str> = (steps.iter())
        .map(|step| &*step.attributes["warmq.step"])
        .collect();
    assert_eq!(numbers, BTreeSet::from(["1", "2", "3", "4"]));
    // In order, each within the span that it is below.
    let order = [
        "submit", "hold", "dispatch", "attempt", "load", "run", "decode", "store",
    ];
    let starts: Vec<u64> = order
        .iter()
        .map(|name| one(&spans, name).start_ns)
        .collect();
    assert!(starts.is_sorted(), "{starts:?}");
    for inner in spans.iter().filter(|span| span.parent == run.id) {
        assert!(
            run.start_ns <= inner.start_ns && inner.end_ns <= run.end_ns,
            "{inner:#?}"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn without_a_callers_trace_the_id_of_a_job_finds_its_trace() {
    let collector = Collector::start().await;
    let system = traced(&collector, "").await;
    let _worker = system.timed_worker("a").await;
    let refused = [("traceparent", "00-not-a-position")];
    let input = json!({"run_ms": 1, "fail": "no"}).to_string();
    let job = system.post(TIMED, &refused, &input).await.job_id();
    system.ended(job).await;
    let spans = spans(
        &system,
        &collector,
        &id_of(job),
        &[("submit", 1), ("attempt", 1)],
    )
    .await;
    assert_eq!(one(&spans, "submit").parent, "");
    assert_ne!(one(&spans, "attempt").failure, "");
    system.cleanup().await;
}

#[tokio::test]
async fn a_submission_by_amqp_continues_its_callers_trace() {
    let collector = Collector::start().await;
    let system = traced(&collector, "").await;
    let _worker = system.timed_worker("a").await;
    let client = AmqpClient::connect(&system.testbed).await;
    let properties = with_header("traceparent", CALLER);
    client
        .submit(TIMED, json!({"run_ms": 1}).to_string(), properties)
        .await;
    let wanted = [("submit", 1), ("attempt", 1)];
    let spans = spans(&system, &collector, CALLERS_TRACE, &wanted).await;
    assert_eq!(one(&spans, "submit").parent, CALLERS_SPAN);
    system.cleanup().await;
}

#[tokio::test]
async fn all_steps_of_a_flow_are_in_its_trace() {
    let collector = Collector::start().await;
    let routes = format!(
        "[apps.'{TIMED}']\n[routes.'acme/twice']\nkind = 'sequence'\nsteps = [\n\
         {{ name = 'one', app = '{TIMED}', input = {{ run_ms = 1 }} }},\n\
         {{ name = 'two', app = '{TIMED}', input = {{ run_ms = 1 }} }},\n]\n"
    );
    let system = traced(&collector, &routes).await;
    let _worker = system.timed_worker("a").await;
    let flow = system.post("acme/twice", &[], "{}").await.job_id();
    system.succeeded(flow).await;
    let wanted = [("submit", 1), ("attempt", 2), ("dispatch", 2)];
    let spans = spans(&system, &collector, &id_of(flow), &wanted).await;
    let submit = one(&spans, "submit");
    let attempts = spans.iter().filter(|span| span.name == "attempt");
    assert!(
        attempts
            .into_iter()
            .all(|attempt| attempt.parent == submit.id)
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_model_server_can_continue_the_trace() {
    let collector = Collector::start().await;
    let system = traced(&collector, "").await;
    let received = Arc::new(Mutex::new(None));
    let given = Arc::clone(&received);
    let run = async move |headers: HeaderMap| {
        let position = headers["traceparent"].to_str().unwrap().to_owned();
        *given.lock().unwrap() = Some(position);
        axum::Json(json!({}))
    };
    let routes = axum::Router::new()
        .route("/", post(run))
        .route("/health", axum::routing::get(async || "ok"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let options = WorkerOptions::of("http", "a", "acme/model").args(["--upstream", &url]);
    let _worker = system.worker(options).await;
    let job = system.post("acme/model", &[], "{}").await.job_id();
    system.succeeded(job).await;
    let spans = spans(&system, &collector, &id_of(job), &[("attempt", 1)]).await;
    let position = received.lock().unwrap().take().unwrap();
    let position: Traceparent = position.parse().unwrap();
    assert_eq!(hex::encode(position.trace_id), id_of(job));
    assert_eq!(hex::encode(position.span_id), one(&spans, "attempt").id);
    system.cleanup().await;
}

#[tokio::test]
async fn a_collector_that_is_away_delays_no_job() {
    let collector = Collector::start().await;
    let (url, system) = (collector.url.clone(), traced(&collector, "").await);
    drop(collector);
    let _worker = system.timed_worker("a").await;
    let path = format!("/run/{TIMED}");
    let input = json!({"run_ms": 1}).to_string();
    let response = system.http(Method::POST, &path, &[], input).await;
    assert!(response.status.is_success(), "{}", response.body);
    let warned = async || {
        let log = system.router.log_tail();
        let named = log.contains("traces cannot be exported") && log.contains(&url);
        named.then_some(())
    };
    system
        .until("the router names the collector", EXPORTED, warned)
        .await;
    system.cleanup().await;
}
