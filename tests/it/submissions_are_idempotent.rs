//! A submission that is repeated under the same key, for lack of a response, is the same job.

use futures::future::join_all;
use lapin::BasicProperties;
use reqwest::StatusCode;
use serde_json::json;
use warmq_store::{AdmissionRules, Created};
use warmq_testkit::{Proxy, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json as body_of, next, with_hint};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

const KEY: &str = "idempotency-key";

#[tokio::test]
async fn the_same_key_returns_the_same_job_in_any_state_and_the_first_body_wins() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let headers = [(KEY, "order 7/é")];
    let submit = |body: &'static str| system.post(TIMED, &headers, body);
    let first = submit(r#"{"run_ms": 300, "load_ms": 1, "output": "first"}"#)
        .await
        .job_id();
    assert_eq!(
        submit(r#"{"output": "second"}"#).await.job_id(),
        first,
        "waiting"
    );
    system.reached(first, JobState::Running).await;
    assert_eq!(
        submit(r#"{"output": "third"}"#).await.job_id(),
        first,
        "running"
    );
    let ended = system.succeeded(first).await;
    assert_eq!((ended.attempt, ended.output), (1, Some(json!("first"))));
    assert_eq!(submit("{}").await.job_id(), first, "ended");
    assert_eq!(system.job(first).await.attempt, 1);
    // Keys are per app, and an empty key is none.
    assert_ne!(
        system.post(TIMED, &[(KEY, "order 8")], "{}").await.job_id(),
        first
    );
    assert_ne!(system.post(TIMED, &[], "{}").await.job_id(), first);
    system.cleanup().await;
}

#[tokio::test]
async fn twenty_concurrent_submissions_with_one_key_run_once() {
    let system = System::start().await;
    let headers = [(KEY, "k")];
    let _worker = system.timed_worker("a").await;
    let submissions =
        (0..20).map(|_| system.post(TIMED, &headers, r#"{"run_ms": 5, "load_ms": 1}"#));
    let answers = join_all(submissions).await;
    let first = answers[0].job_id();
    for answer in &answers {
        assert_eq!(answer.job_id(), first);
    }
    system.succeeded(first).await;
    // Copies, if any, precede this one in the queue.
    system.succeeded(system.submit("m", 1).await).await;
    assert_eq!(system.job(first).await.attempt, 1);
    assert_eq!(system.get("/v1/apps").await.body["apps"][0]["queued"], 0);
    system.cleanup().await;
}

#[tokio::test]
async fn repeating_a_submission_completes_one_that_failed_before_publishing() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let job = JobSpec::new(
        TIMED.parse().unwrap(),
        json!({"run_ms": 5, "output": "first"}),
    );
    let key = "k".parse().unwrap();
    let terms = AdmissionRules {
        key: Some(&key),
        ..AdmissionRules::default()
    };
    // As by a router that is killed before it publishes.
    let created = system
        .testbed
        .store()
        .jobs()
        .admit(&job, terms)
        .await
        .unwrap();
    assert!(matches!(created, Created::New { id, .. } if id == job.id));
    let repeated = system
        .post(TIMED, &[(KEY, "k")], r#"{"output": "second"}"#)
        .await;
    assert_eq!(repeated.job_id(), job.id);
    assert_eq!(system.succeeded(job.id).await.output, Some(json!("first")));
    system.cleanup().await;
}

#[tokio::test]
async fn a_key_whose_submission_failed_accepts_the_next_one() {
    let mut system = System::start().await;
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    system.connect_through("--amqp-url", &proxy).await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    proxy.shut();
    let headers = [(KEY, "k")];
    let refused = system.post(TIMED, &headers, r#"{"run_ms": 5}"#).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(system.get("/v1/apps").await.body["apps"][0]["queued"], 0);
    proxy.reopen();
    let accepted = eventually("a submission is accepted", TIMEOUT, async || {
        let answer = system.post(TIMED, &headers, r#"{"run_ms": 5}"#).await;
        (answer.status == StatusCode::OK).then(|| answer.job_id())
    });
    system.succeeded(accepted.await.unwrap()).await;
    system.cleanup().await;
}

#[tokio::test]
async fn one_failed_submission_does_not_take_the_job_from_another_that_was_accepted() {
    let system = System::start().await;
    let store = system.testbed.store();
    let job = JobSpec::new(TIMED.parse().unwrap(), json!({}));
    let key = "k".parse().unwrap();
    let terms = AdmissionRules {
        key: Some(&key),
        ..AdmissionRules::default()
    };
    store.jobs().admit(&job, terms).await.unwrap();
    let again = JobSpec::new(job.app.clone(), json!({}));
    let known = store.jobs().admit(&again, terms).await.unwrap();
    assert_eq!(known, Created::Known { id: job.id });
    // The first publish failed, the second one did not.
    assert!(!store.jobs().withdraw(&job.app, job.id).await.unwrap());
    assert!(store.jobs().job(job.id).await.unwrap().is_some());
    // If both had failed, nothing would be left, and the key would stand for the same id.
    assert!(store.jobs().withdraw(&job.app, job.id).await.unwrap());
    assert!(store.jobs().job(job.id).await.unwrap().is_none());
    let anew = store.jobs().admit(&again, terms).await.unwrap();
    assert!(
        matches!(anew, Created::New { id, .. } if id == job.id),
        "{anew:?}"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_key_is_refused_by_name() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let long = "x".repeat(256);
    for key in ["", &long, "a\tb"] {
        let answer = system.post(TIMED, &[(KEY, key)], "{}").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "'{key}'");
        assert_eq!(answer.body["detail"][0]["loc"], json!(["header", KEY]));
    }
    let longest = "x".repeat(255);
    system.post(TIMED, &[(KEY, &longest)], "{}").await.job_id();
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_id_is_an_idempotency_key_by_http_and_amqp() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let first = system
        .post(TIMED, &[(KEY, "mine")], r#"{"run_ms": 5}"#)
        .await
        .job_id();
    system.succeeded(first).await;
    let properties = with_hint("m").with_message_id("mine".into());
    user.submit(TIMED, r#"{"run_ms": 5}"#, properties).await;
    // An invalid id is reported by name.
    let properties = BasicProperties::default()
        .with_message_id("a\nb".into())
        .with_reply_to(DIRECT_REPLY_TO.into());
    let app = TIMED.parse().unwrap();
    let mut dead = user
        .consume(&system.testbed.topology().dead_queue(&app))
        .await;
    user.submit(TIMED, "{}", properties).await;
    let letter = next(&mut dead).await;
    assert!(header(&letter, "x-warmq-reason").contains("idempotency key"));
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["status"], "ERROR");
    // Two messages with one key: one job, found by HTTP under the same key.
    for _ in 0..2 {
        let properties = with_hint("m").with_message_id("theirs".into());
        user.submit(TIMED, r#"{"run_ms": 5, "output": "amqp"}"#, properties)
            .await;
    }
    let store = system.testbed.store();
    let key = "theirs".parse().unwrap();
    let theirs = eventually("the job is known", TIMEOUT, async || {
        store.jobs().job_of_key(&app, None, &key).await.unwrap()
    });
    let theirs = theirs.await.unwrap();
    let by_http = system.post(TIMED, &[(KEY, "theirs")], "{}").await;
    assert_eq!(by_http.job_id(), theirs);
    assert_eq!(system.succeeded(theirs).await.output, Some(json!("amqp")));
    system.cleanup().await;
}
