//! A job that has not started in time expires, and an attempt over the run timeout ends.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_store::{Start, StartSource, Store, Unavailable};
use warmq_testkit::{Testbed, eventually, registration};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next};
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::{AppId, Epoch, JobId, RunnerId};
use warmq_types::job::{JobError, JobSpec};
use warmq_types::state::JobState;

async fn submit(system: &System, timeout: &str, run_ms: u32) -> JobId {
    let headers = [
        ("x-fal-request-timeout", timeout),
        ("x-fal-runner-hint", "m"),
    ];
    let input = json!({"run_ms": run_ms, "load_ms": 1}).to_string();
    system.post(TIMED, &headers, &input).await.job_id()
}

/// Waits until a job expired, and checks what fal's clients see.
async fn expired(system: &System, id: JobId) {
    let job = system.ended(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Expired, 0));
    let waited_ms = job.finished_ms.unwrap() - job.spec.created_ms;
    assert!(
        waited_ms >= job.spec.start_timeout_ms.unwrap(),
        "too early: {waited_ms} ms"
    );
    let base = format!("/queue/{TIMED}/requests/{id}");
    let status = system.get(&format!("{base}/status")).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.body["status"], "COMPLETED");
    assert_eq!(status.body["error_type"], "request_timeout");
    let result = system.get(&base).await;
    assert_eq!(result.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(result.headers["x-fal-request-timeout-type"], "user");
    assert_eq!(result.headers["x-fal-error-type"], "request_timeout");
    assert_eq!(result.body["error_type"], "request_timeout");
    let cancel = system
        .http(Method::PUT, &format!("{base}/cancel"), &[], "")
        .await;
    assert_eq!(cancel.body, json!({"status": "ALREADY_COMPLETED"}));
}

async fn nothing_is_held(system: &System) {
    eventually("no job is held", TIMEOUT, async || {
        let page = Page::read(&String::from_utf8(system.get("/metrics").await.bytes).unwrap());
        (page.get("warmq_held_jobs", &[("app", TIMED)]) == Some(0.0)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_held_job_expires_at_its_start_deadline() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let id = submit(&system, "0.5", 1).await;
    let patient = submit(&system, "3600", 1).await;
    expired(&system, id).await;
    let app = AppId::parse(TIMED).unwrap();
    let position = system
        .testbed
        .store()
        .jobs()
        .queue_position(&app, patient)
        .await;
    assert_eq!(position.unwrap(), Some(0));
    let _worker = system.timed_worker("a").await;
    system.succeeded(patient).await;
    assert_eq!(system.job(id).await.attempt, 0);
    nothing_is_held(&system).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_in_the_shared_queue_and_a_held_low_one_expire_under_policy_fal() {
    let system = System::with_config("[apps.'bench/timed']\npolicy = 'fal'").await;
    let _worker = system.timed_worker("a").await;
    let busy = submit(&system, "30.0", 4000).await;
    system.reached(busy, JobState::Running).await;
    let shared = submit(&system, "1", 1).await;
    let headers = [
        ("x-fal-queue-priority", "low"),
        ("x-fal-request-timeout", "1"),
    ];
    let answer = system.post(TIMED, &headers, "{}").await;
    let low = answer.job_id();
    expired(&system, shared).await;
    expired(&system, low).await;
    nothing_is_held(&system).await;
    system.succeeded(busy).await;
    system.succeeded(system.submit("m", 1).await).await;
    for id in [shared, low] {
        assert_eq!(system.job(id).await.attempt, 0);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_that_started_in_time_is_not_expired() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let id = submit(&system, "5", 6_000).await;
    let job = system.succeeded(id).await;
    assert!(job.finished_ms.unwrap() - job.spec.created_ms > 6_000);
    system.cleanup().await;
}

#[tokio::test]
async fn a_hold_ends_before_the_job_expires() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    system.succeeded(system.submit("m", 10).await).await;
    system.all_idle(TIMED).await;
    let busy = system.submit("m", 60_000).await;
    let busy = system.reached(busy, JobState::Running).await;
    let job = system.succeeded(submit(&system, "6", 1).await).await;
    assert_ne!(job.runner, busy.runner);
    if let Some(hold) = job.hold {
        assert!(hold.until_ms <= job.spec.created_ms + 3100, "{hold:?}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_past_its_deadline_does_not_start_without_a_sweep() {
    // Without a router, no sweep runs.
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, app) = (testbed.store(), AppId::parse(TIMED).unwrap());
    let runner = RunnerId::parse("r").unwrap();
    register(store, &app, &runner).await;
    let spec = JobSpec {
        start_timeout_ms: Some(1),
        webhook: Some("https://example.com/".to_owned()),
        ..JobSpec::new(app.clone(), json!({}))
    };
    store.jobs().create(&spec).await.unwrap();
    let created_ms = store
        .jobs()
        .job(spec.id)
        .await
        .unwrap()
        .unwrap()
        .spec
        .created_ms;
    eventually("a moment has passed", TIMEOUT, async || {
        (store.now_ms().await.unwrap() > created_ms + 1).then_some(())
    })
    .await
    .unwrap();
    let start = store.attempts().start(
        &app,
        spec.id,
        &runner,
        Epoch(1),
        1000,
        StartSource::SharedQueue,
    );
    assert_eq!(
        start.await.unwrap(),
        Start::Unavailable(Unavailable::Terminal(JobState::Expired))
    );
    let job = store.jobs().job(spec.id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Expired, 0));
    assert_eq!(
        store.jobs().queue_position(&app, spec.id).await.unwrap(),
        None
    );
    // The leader receives the event until every outcome is announced.
    assert_eq!(store.deadlines().expire(&app).await.unwrap(), []);
    for _ in 0..2 {
        let outbox = store.outbox().entries(&app, Duration::ZERO).await.unwrap();
        assert_eq!(outbox, [spec.id]);
        let end = store.outbox().record(&app, spec.id).await.unwrap();
        assert_eq!(end.unwrap().state, JobState::Expired);
    }
    store.outbox().remove(&spec.app, spec.id);
    store.outbox().flush().await;
    assert_eq!(
        store.outbox().entries(&app, Duration::ZERO).await.unwrap(),
        []
    );
    testbed.cleanup().await.unwrap();
}

/// Registers a runner without a process.
async fn register(store: &Store, app: &AppId, runner: &RunnerId) {
    let registration = registration(app, runner);
    let schema = Value::Object(serde_json::Map::new());
    let lease = Duration::from_secs(60);
    store
        .membership()
        .register(&registration, &schema, lease)
        .await
        .unwrap();
}

/// Makes a running job with a start timeout of 1 s whose runner's lease lapsed.
async fn job_of_a_lost_runner(testbed: &Testbed, max_attempts: u32) -> JobSpec {
    let store = testbed.store();
    let app = AppId::parse(TIMED).unwrap();
    let runner = RunnerId::parse("lost").unwrap();
    register(store, &app, &runner).await;
    let spec = JobSpec {
        start_timeout_ms: Some(1000),
        max_attempts,
        ..JobSpec::new(app, json!({}))
    };
    store.jobs().create(&spec).await.unwrap();
    let started = store.attempts().start(
        &spec.app,
        spec.id,
        &runner,
        Epoch(1),
        0,
        StartSource::SharedQueue,
    );
    assert!(matches!(started.await.unwrap(), Start::Started(_)));
    spec
}

#[tokio::test]
async fn a_lost_job_expires_unless_its_next_attempt_starts_in_time() {
    let testbed = Testbed::builder().start().await.unwrap();
    let store = testbed.store();
    let spec = job_of_a_lost_runner(&testbed, 10).await;
    eventually("its deadline has passed", TIMEOUT, async || {
        let created_ms = store.jobs().job(spec.id).await.unwrap()?.spec.created_ms;
        (store.now_ms().await.unwrap() > created_ms + 1000).then_some(())
    })
    .await
    .unwrap();
    // The deadline does not apply while the job runs.
    assert_eq!(store.deadlines().expire(&spec.app).await.unwrap(), []);
    assert!(
        store
            .attempts()
            .mark_lost(&spec.app, spec.id)
            .await
            .unwrap()
            .is_some()
    );
    let expired = store.deadlines().expire(&spec.app).await.unwrap();
    assert_eq!(expired.len(), 1);
    let state = store.jobs().state_of(&spec.app, spec.id).await.unwrap();
    assert_eq!(state, Some(JobState::Expired));
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_redriven_job_gets_a_new_start_deadline() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, spec) = (testbed.store(), job_of_a_lost_runner(&testbed, 1).await);
    assert!(
        store
            .attempts()
            .mark_lost(&spec.app, spec.id)
            .await
            .unwrap()
            .is_some()
    );
    let error = JobError::quarantined(1, &[]);
    assert!(
        store
            .attempts()
            .quarantine(&spec.app, spec.id, &error)
            .await
            .unwrap()
    );
    eventually("its first deadline has passed", TIMEOUT, async || {
        let created_ms = store.jobs().job(spec.id).await.unwrap()?.spec.created_ms;
        (store.now_ms().await.unwrap() > created_ms + 1000).then_some(())
    })
    .await
    .unwrap();
    assert!(store.attempts().redrive(&spec.app, spec.id).await.unwrap());
    let runner = RunnerId::parse("lost").unwrap();
    let again = store.attempts().start(
        &spec.app,
        spec.id,
        &runner,
        Epoch(1),
        1000,
        StartSource::SharedQueue,
    );
    assert!(matches!(again.await.unwrap(), Start::Started(_)));
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_requeued_job_keeps_its_deadline() {
    let system = System::start().await;
    let options = warmq_testkit::WorkerOptions::timed("a", TIMED).args(["--drain-timeout-s", "0"]);
    let worker = system.worker(options).await;
    let id = submit(&system, "1", 60_000).await;
    let job = system.reached(id, JobState::Running).await;
    let deadline_ms = job.spec.created_ms + 1000;
    eventually("the deadline has passed", TIMEOUT, async || {
        let now_ms = system.testbed.store().now_ms().await.unwrap();
        (now_ms > deadline_ms).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(system.job(id).await.state, JobState::Running);
    worker.terminate().unwrap();
    assert_eq!(system.ended(id).await.state, JobState::Expired);
    system.cleanup().await;
}

#[tokio::test]
async fn an_amqp_submission_with_a_deadline_gets_a_reply_when_it_expires() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let mut headers = FieldTable::default();
    headers.insert("x-request-timeout".into(), AMQPValue::Double(0.5));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, "{}", properties).await;
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["status"], "ERROR");
    assert_eq!(reply["payload"]["error_type"], "request_timeout");
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_start_timeout_is_refused() {
    let system = System::with_config("[apps.'bench/timed']").await;
    for bad in ["0", "-1", "soon", "0.0001", "1e9"] {
        let answer = system
            .post(TIMED, &[("x-fal-request-timeout", bad)], "{}")
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        let detail = &answer.body["detail"][0];
        assert_eq!(detail["loc"], json!(["header", "x-fal-request-timeout"]));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_last_attempt_over_the_run_timeout_fails_and_its_runner_stays_warm() {
    let system =
        System::with_config("[apps.'bench/timed']\nrun_timeout = '2s'\nmax_attempts = 1").await;
    let _worker = system.timed_worker("a").await;
    let id = system.submit("m", 60_000).await;
    let job = system.ended(id).await;
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1));
    let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
    assert_eq!(result.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(result.body["error_type"], "request_timeout");
    let detail = result.body["detail"].as_str().unwrap();
    assert!(detail.contains("2 s"), "{detail}");
    // The header marks a 504 as final for fal's clients, also where the limit is the app's.
    assert_eq!(result.headers["x-fal-request-timeout-type"], "user");
    let next = system.succeeded(system.submit("m", 1).await).await;
    assert!(next.timings.unwrap().warm);
    system.cleanup().await;
}

#[tokio::test]
async fn an_attempt_over_the_run_timeout_is_retried_on_another_runner() {
    for policy in ["warm", "fal"] {
        let config = format!(
            "[apps.'bench/timed']\npolicy = '{policy}'\nrun_timeout = '500ms'\nmax_attempts = 2"
        );
        let system = System::with_config(&config).await;
        let _workers = [
            system.timed_worker("a").await,
            system.timed_worker("b").await,
        ];
        let id = system.submit("m", 60_000).await;
        let first = system.reached(id, JobState::Running).await.runner;
        let job = system.ended(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Failed, 2), "{policy}");
        assert_eq!(job.error.unwrap().status, 504);
        // The first runner has the model by now, and is avoided.
        assert_ne!(job.runner, first, "{policy}");
        system.cleanup().await;
    }
}
