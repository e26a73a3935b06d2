//! A job's end is delivered to its webhook once and signed, whatever crashes; and webhooks cannot
//! reach addresses that only the router can.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use ed25519_dalek::{Signature, VerifyingKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use warmq_broker::Message;
use warmq_store::{AfterAttempt, AttemptSlot};
use warmq_testkit::eventually;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{HttpResponse, System};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

/// The receivers are on this machine.
const ALLOWED: &str = "fetch_allow = '127.0.0.0/8'";

/// Delay of an attempt whose router died: its lease, and the retry tiers.
const AFTER_A_DEATH: Duration = Duration::from_secs(60);

/// A received webhook.
#[derive(Debug, Clone)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// The responses of a receiver.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Status(u16),
    RedirectTo(&'static str),
    Silence,
}

#[derive(Default)]
struct Heard {
    received: Vec<Received>,
    /// Statuses of the next responses; 200 once there are none.
    manners: VecDeque<Manner>,
    always: Option<Manner>,
}

/// A web server.
#[derive(Clone)]
struct Receiver {
    port: u16,
    heard: Arc<Mutex<Heard>>,
}

impl Receiver {
    /// Responds with these statuses first, and then with 200.
    async fn start(manners: &[Manner]) -> Self {
        let heard = Heard {
            manners: manners.iter().copied().collect(),
            ..Heard::default()
        };
        Self::of(heard).await
    }

    /// Accepts everything and does not respond.
    async fn silent() -> Self {
        let heard = Heard {
            always: Some(Manner::Silence),
            ..Heard::default()
        };
        Self::of(heard).await
    }

    async fn of(heard: Heard) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            heard: Arc::new(Mutex::new(heard)),
        };
        let routes = Router::new().fallback(hear).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn received(&self) -> Vec<Received> {
        self.heard.lock().unwrap().received.clone()
    }

    /// Returns the webhooks received for this job so far.
    fn told_of(&self, job: JobId) -> Vec<Received> {
        let of_job = |received: &Received| received.json()["request_id"] == job.to_string();
        self.received().into_iter().filter(of_job).collect()
    }

    /// Waits for `count` webhooks of this job, and returns them.
    async fn hears(&self, job: JobId, count: usize, bound: Duration) -> Vec<Received> {
        eventually(
            &format!("the webhook of job {job} arrives"),
            bound,
            async || Some(self.told_of(job)).filter(|received| received.len() >= count),
        )
        .await
        .unwrap()
    }
}

async fn hear(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let manner = {
        let mut heard = receiver.heard.lock().unwrap();
        heard.received.push(Received {
            path: uri.path().to_owned(),
            headers,
            body,
            at: Instant::now(),
        });
        let next = heard.manners.pop_front();
        next.or(heard.always).unwrap_or(Manner::Status(200))
    };
    match manner {
        Manner::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Manner::RedirectTo(place) => {
            (StatusCode::FOUND, [(header::LOCATION, place)]).into_response()
        }
        Manner::Silence => std::future::pending().await,
    }
}

async fn post(
    system: &System,
    webhook: &str,
    headers: &[(&str, &str)],
    input: Value,
) -> HttpResponse {
    let path = format!("/queue/{TIMED}?fal_webhook={webhook}");
    let input = input.to_string();
    system.http(Method::POST, &path, headers, input).await
}

async fn submit(system: &System, webhook: &str, input: Value) -> JobId {
    post(system, webhook, &[], input).await.job_id()
}

fn quick() -> Value {
    json!({"run_ms": 1, "load_ms": 1, "output": {"text": "schön 猫"}})
}

/// Waits until a line of the job's log contains `words`, and returns the log.
async fn log_contains(system: &System, job: JobId, words: &str) -> Vec<String> {
    let app = AppId::parse(TIMED).unwrap();
    let bound = TIMEOUT;
    eventually(&format!("the log contains '{words}'"), bound, async || {
        let lines = system.testbed.store().log().all(&app, job).await.unwrap();
        let lines: Vec<String> = lines.into_iter().map(|line| line.message).collect();
        let output = lines.iter().any(|line| line.contains(words));
        output.then_some(lines)
    })
    .await
    .unwrap()
}

/// fal's documented recipe, with the key that the router publishes.
async fn verify(system: &System, received: &Received) {
    let at: u64 = received.header("x-fal-webhook-timestamp").parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(at) < 300);
    let message = [
        received.header("x-fal-webhook-request-id"),
        received.header("x-fal-webhook-user-id"),
        received.header("x-fal-webhook-timestamp"),
        &hex::encode(Sha256::digest(&received.body)),
    ]
    .join("\n");
    let signature = hex::decode(received.header("x-fal-webhook-signature")).unwrap();
    let signature = Signature::from_slice(&signature).unwrap();
    let keys = system.get("/.well-known/jwks.json").await.body;
    // Strict: without its padding it would be refused.
    let key = URL_SAFE
        .decode(keys["keys"][0]["x"].as_str().unwrap())
        .unwrap();
    let key = VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
    key.verify_strict(message.as_bytes(), &signature).unwrap();
    let forged = message.replace(&received.header("x-fal-webhook-timestamp")[..3], "999");
    assert!(key.verify_strict(forged.as_bytes(), &signature).is_err());
}

#[tokio::test]
async fn a_result_is_delivered_once_and_the_published_key_verifies_it() {
    let system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[]).await;
    let job = submit(&system, &receiver.url(), quick()).await;
    let received = receiver.hears(job, 1, TIMEOUT).await.remove(0);
    assert_eq!(received.path, "/hook");
    assert_eq!(
        received.json(),
        json!({
            "request_id": job,
            "gateway_request_id": job,
            "status": "OK",
            "payload": {"text": "schön 猫"},
        })
    );
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("x-fal-webhook-request-id"), job.to_string());
    assert_eq!(received.header("x-fal-webhook-user-id"), "anonymous");
    verify(&system, &received).await;
    log_contains(&system, job, "webhook delivered: 127.0.0.1 answered 200").await;

    // Announced again, as by a worker that dies before the ack; later webhooks are delivered.
    let spec = system.job(job).await.spec;
    announce(&system, &spec, JobState::Succeeded).await;
    let next = submit(&system, &receiver.url(), quick()).await;
    receiver.hears(next, 1, TIMEOUT).await;
    assert_eq!(receiver.told_of(job).len(), 1);
    let page = Page::read(&String::from_utf8(system.get("/metrics").await.bytes).unwrap());
    let delivered = [("app", TIMED), ("outcome", "delivered")];
    assert!(page.get("warmq_webhooks_total", &delivered) >= Some(1.0));
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_is_delivered_once_after_its_last_step() {
    let toml = format!(
        "{ALLOWED}\n[apps.'{TIMED}']\n[routes.'acme/twice']\nkind = 'sequence'\nsteps = [{{ name = 'one', app = '{TIMED}' }}, \
         {{ name = 'two', app = '{TIMED}', input = {{ output = 'steps.one.output.text', run_ms = 1 }} }}]"
    );
    let system = System::with_config(&toml).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[]).await;
    let path = format!("/queue/acme/twice?fal_webhook={}", receiver.url());
    let answer = system.http(Method::POST, &path, &[], quick().to_string());
    let flow: JobId = answer.await.body["request_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let received = receiver.hears(flow, 1, TIMEOUT).await.remove(0);
    assert_eq!(received.json()["payload"], "schön 猫");
    verify(&system, &received).await;
    // Later webhooks are delivered; steps have none.
    let next = submit(&system, &receiver.url(), quick()).await;
    receiver.hears(next, 1, TIMEOUT).await;
    assert_eq!(receiver.received().len(), 2);
    system.cleanup().await;
}

async fn announce(system: &System, job: &JobSpec, state: JobState) {
    let topology = system.testbed.topology();
    let event = Message::new(JobEvent::new(job, state).encode().unwrap());
    let (exchange, key) = (
        topology.events_exchange(),
        topology.event_key(job, state, true).unwrap(),
    );
    assert!(key.ends_with(".webhook"), "{key}");
    let publisher = system.testbed.publisher();
    publisher.announce(&exchange, &key, &event).await.unwrap();
}

#[tokio::test]
async fn failed_cancelled_and_expired_jobs_are_delivered_once_as_errors() {
    let system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[]).await;
    let url = receiver.url();

    let wrong = json!({"run_ms": 1, "load_ms": 1, "fail": "no such colour"});
    let failed = submit(&system, &url, wrong).await;
    let received = receiver.hears(failed, 1, TIMEOUT).await.remove(0);
    verify(&system, &received).await;
    let body = received.json();
    assert_eq!(body["status"], "ERROR");
    assert_eq!(body["error"], "no such colour");
    assert_eq!(body["payload"]["detail"][0]["msg"], "no such colour");

    let busy = submit(&system, &url, json!({"run_ms": 600_000, "load_ms": 1})).await;
    system.reached(busy, JobState::Running).await;
    let headers = [("x-fal-request-timeout", "0.3")];
    let answer = post(&system, &url, &headers, quick()).await;
    let expired = answer.job_id();
    let body = receiver.hears(expired, 1, TIMEOUT).await[0].json();
    assert_eq!(body["status"], "ERROR");
    assert_eq!(body["payload"]["error_type"], "request_timeout");

    // Both the router that cancels it and the worker that stops it announce the end.
    let path = format!("/queue/{TIMED}/requests/{busy}/cancel");
    let answer = system.http(Method::PUT, &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let received = receiver.hears(busy, 1, TIMEOUT).await.remove(0);
    verify(&system, &received).await;
    assert_eq!(received.json()["status"], "ERROR");
    assert_eq!(received.json()["payload"]["error_type"], "client_cancelled");

    let next = submit(&system, &url, quick()).await;
    receiver.hears(next, 1, TIMEOUT).await;
    for job in [failed, busy, expired, next] {
        assert_eq!(receiver.told_of(job).len(), 1);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_failed_delivery_is_retried_seconds_later() {
    let system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[Manner::Status(500)]).await;
    let job = submit(&system, &receiver.url(), quick()).await;
    let received = receiver.hears(job, 2, TIMEOUT).await;
    let between = received[1].at - received[0].at;
    // The clocks of Redis and of this process may differ slightly.
    assert!(between > Duration::from_millis(6900), "{between:?}");
    assert_eq!(received[0].body, received[1].body);
    verify(&system, &received[1]).await;
    let log = log_contains(&system, job, "webhook delivered: 127.0.0.1 answered 200").await;
    let failed =
        "webhook not delivered yet: 127.0.0.1 answered 500; attempt 2 of 11 follows in 7 s";
    assert!(log.iter().any(|line| line == failed), "{log:?}");
    assert_eq!(receiver.told_of(job).len(), 2);
    system.cleanup().await;
}

#[tokio::test]
async fn a_redirect_ends_the_delivery() {
    let system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[Manner::RedirectTo("/elsewhere")]).await;
    let job = submit(&system, &receiver.url(), quick()).await;
    log_contains(
        &system,
        job,
        "webhook given up: 127.0.0.1 answered 302, and redirects are not followed",
    )
    .await;
    let paths: Vec<String> = receiver
        .received()
        .into_iter()
        .map(|received| received.path)
        .collect();
    assert_eq!(paths, ["/hook"]);
    // Given up for good, however often the end is announced.
    let spec = system.job(job).await.spec;
    announce(&system, &spec, JobState::Succeeded).await;
    let next = submit(&system, &receiver.url(), quick()).await;
    receiver.hears(next, 1, TIMEOUT).await;
    assert_eq!(receiver.told_of(job).len(), 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_webhook_into_the_routers_own_network_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[]).await;
    let port = receiver.port;
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let answer = post(&system, &format!("http://{host}:{port}/hook"), &[], quick()).await;
        let body = &answer.body;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{host}");
        assert_eq!(body["detail"][0]["loc"], json!(["query", "fal_webhook"]));
        assert_eq!(body["detail"][0]["type"], "invalid_webhook", "{host}");
        let received = body["detail"][0]["msg"].as_str().unwrap();
        assert!(
            received.ends_with("has no address that may be reached from here"),
            "{received}"
        );
    }
    for wrong in [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://user:word@example.com/",
    ] {
        let answer = post(&system, wrong, &[], quick()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert_eq!(answer.body["detail"][0]["type"], "invalid_webhook");
    }
    // A name's address is checked when it is resolved.
    let named = format!("http://localhost:{port}/hook?token=secret");
    let job = submit(&system, &named, quick()).await;
    let log = log_contains(&system, job, "webhook not delivered yet").await;
    let line = log.last().unwrap();
    assert!(
        line.contains("localhost has no address that may be reached from here"),
        "{line}"
    );
    assert_eq!(receiver.received().len(), 0);
    let logged = std::fs::read_to_string(system.router.log()).unwrap();
    assert!(
        !logged.contains("token=secret"),
        "a URL's secret is not logged"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_slow_receiver_does_not_delay_others() {
    let system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let slow = Receiver::silent().await;
    let quick_one = Receiver::start(&[]).await;
    // More than a router delivers in parallel.
    let mut last = None;
    for _ in 0..100 {
        last = Some(submit(&system, &slow.url(), json!({"run_ms": 1, "load_ms": 1})).await);
    }
    system.succeeded(last.unwrap()).await;
    let asked = Instant::now();
    let job = submit(&system, &quick_one.url(), quick()).await;
    quick_one.hears(job, 1, TIMEOUT).await;
    // Before the first delivery to the slow receiver times out.
    assert!(asked.elapsed() < Duration::from_secs(10));
    let received = eventually("the slow receiver has its maximum", TIMEOUT, async || {
        Some(slow.received()).filter(|received| received.len() >= 8)
    });
    let received = received.await.unwrap();
    let at_first = |one: &&Received| one.at - received[0].at < Duration::from_secs(10);
    assert_eq!(received.iter().filter(at_first).count(), 8);
    system.cleanup().await;
}

#[tokio::test]
async fn an_undelivered_webhook_is_delivered_by_the_next_router() {
    let mut system = System::with_config(ALLOWED).await;
    system
        .replace_router(&["--roles", "api,dispatch,reply"])
        .await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[]).await;
    let job = submit(&system, &receiver.url(), quick()).await;
    system.succeeded(job).await;
    system.router.kill9().await.unwrap();
    assert_eq!(receiver.received().len(), 0);
    system.router = system.testbed.router(&[]).await.unwrap();
    let received = receiver.hears(job, 1, TIMEOUT).await.remove(0);
    verify(&system, &received).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_webhook_whose_router_dies_mid_delivery_is_delivered_by_another() {
    let mut system = System::with_config(ALLOWED).await;
    let _worker = system.timed_worker("a").await;
    let receiver = Receiver::start(&[Manner::Silence]).await;
    let job = submit(&system, &receiver.url(), quick()).await;
    receiver.hears(job, 1, TIMEOUT).await;
    system.router.kill9().await.unwrap();
    system.router = system.testbed.router(&[]).await.unwrap();
    let received = receiver.hears(job, 2, AFTER_A_DEATH).await;
    verify(&system, &received[1]).await;
    log_contains(&system, job, "webhook delivered").await;
    assert_eq!(receiver.told_of(job).len(), 2);
    system.cleanup().await;
}

#[tokio::test]
async fn each_attempt_is_made_once_and_one_at_a_time() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let store = system.testbed.store();
    let app = AppId::parse(TIMED).unwrap();
    let spec = JobSpec {
        webhook: Some("https://example.com/".to_owned()),
        ..JobSpec::new(app.clone(), json!({}))
    };
    let job = spec.id;
    store.jobs().create(&spec).await.unwrap();
    let long = Duration::from_secs(20);
    let begin = async |attempt: u32, end_ms: u64, lease: Duration| {
        let turn = store
            .webhook_deliveries()
            .begin(&app, job, (attempt, end_ms), lease);
        turn.await.unwrap()
    };
    assert_eq!(
        begin(1, 0, long).await,
        AttemptSlot::Never,
        "it has not ended"
    );
    store.cancellation().cancel(&app, job).await.unwrap();
    let record = store.jobs().job_of(&app, job).await.unwrap().unwrap();
    assert_eq!(record.spec.webhook, spec.webhook);
    let end_ms = record.finished_ms.unwrap();
    assert_eq!(
        begin(1, end_ms + 1, long).await,
        AttemptSlot::Never,
        "another end"
    );

    // The attempt of a dead router keeps its slot until its lease lapses.
    let brief = Duration::from_secs(2);
    assert_eq!(begin(1, end_ms, brief).await, AttemptSlot::Now);
    assert!(matches!(begin(1, end_ms, brief).await, AttemptSlot::After(left) if left <= brief));
    eventually("the lease has lapsed", TIMEOUT, async || {
        (begin(1, end_ms, long).await == AttemptSlot::Now).then_some(())
    })
    .await
    .unwrap();
    assert!(matches!(begin(1, end_ms, long).await, AttemptSlot::After(left) if left <= long));

    let line = ("WARN", "not yet");
    let again = AfterAttempt::Again(Duration::from_secs(7));
    let noted = store
        .webhook_deliveries()
        .end(&app, job, (1, end_ms), again, line);
    noted.await.unwrap();
    assert_eq!(
        begin(1, end_ms, long).await,
        AttemptSlot::Never,
        "it was made"
    );
    let due = begin(2, end_ms, long).await;
    assert!(matches!(due, AttemptSlot::After(left) if left <= Duration::from_secs(7)));
    let noted = store.webhook_deliveries().end(
        &app,
        job,
        (2, end_ms),
        AfterAttempt::Over,
        ("INFO", "delivered"),
    );
    noted.await.unwrap();
    for attempt in 1..=11 {
        assert_eq!(begin(attempt, end_ms, long).await, AttemptSlot::Never);
    }
    let log = store.log().all(&app, job).await.unwrap();
    let received: Vec<&str> = log.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(received, ["cancelled", "not yet", "delivered"]);
    system.cleanup().await;
}
