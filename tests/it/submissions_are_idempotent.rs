//! Who is not told whether a job was accepted submits it again under the same key: it is the same job.

use futures::future::join_all;
use lapin::BasicProperties;
use reqwest::StatusCode;
use serde_json::json;
use warmq_store::{AdmissionRules, Created};
use warmq_testkit::{Proxy, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json as body_of, next, with_hint};
use warmq_tests::stage::{SOON, TIMED};
use warmq_tests::{AmqpUser, Answer, Stage};
use warmq_types::ids::JobId;
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

const KEY: &str = "idempotency-key";

fn id(answer: &Answer) -> JobId {
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    answer.body["request_id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_same_key_is_the_same_job_whatever_happened_to_it_and_the_first_body_wins() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let headers = [(KEY, "order 7/é")];
    let submit = |body: &'static str| stage.post(TIMED, &headers, body);
    let first = id(&submit(r#"{"run_ms": 300, "load_ms": 1, "output": "first"}"#).await);
    assert_eq!(
        id(&submit(r#"{"output": "second"}"#).await),
        first,
        "waiting"
    );
    stage.reached(first, JobState::Running).await;
    assert_eq!(
        id(&submit(r#"{"output": "third"}"#).await),
        first,
        "running"
    );
    let ended = stage.succeeded(first).await;
    assert_eq!((ended.attempt, ended.output), (1, Some(json!("first"))));
    assert_eq!(id(&submit("{}").await), first, "ended");
    assert_eq!(stage.job(first).await.attempt, 1);
    // A key is of one app, and no key is no job's.
    assert_ne!(
        id(&stage.post(TIMED, &[(KEY, "order 8")], "{}").await),
        first
    );
    assert_ne!(id(&stage.post(TIMED, &[], "{}").await), first);
    stage.clean_up().await;
}

#[tokio::test]
async fn twenty_at_once_with_one_key_are_one_job_that_runs_once() {
    let stage = Stage::start().await;
    let headers = [(KEY, "k")];
    let _worker = stage.timed("a").await;
    let submissions =
        (0..20).map(|_| stage.post(TIMED, &headers, r#"{"run_ms": 5, "load_ms": 1}"#));
    let answers = join_all(submissions).await;
    let first = id(&answers[0]);
    for answer in &answers {
        assert_eq!(id(answer), first);
    }
    stage.succeeded(first).await;
    // Whatever copies there are stand in front of this one.
    stage.succeeded(stage.submit("m", 1).await).await;
    assert_eq!(stage.job(first).await.attempt, 1);
    assert_eq!(stage.get("/v1/apps").await.body["apps"][0]["queued"], 0);
    stage.clean_up().await;
}

#[tokio::test]
async fn a_submission_that_died_between_record_and_queue_is_completed_by_its_repeat() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let job = JobSpec::new(
        TIMED.parse().unwrap(),
        json!({"run_ms": 5, "output": "first"}),
    );
    let key = "k".parse().unwrap();
    let terms = AdmissionRules {
        key: Some(&key),
        ..AdmissionRules::default()
    };
    // As a router does that is killed before it publishes.
    let created = stage.cluster.store().admit(&job, terms).await.unwrap();
    assert!(matches!(created, Created::New { id, .. } if id == job.id));
    let repeated = stage
        .post(TIMED, &[(KEY, "k")], r#"{"output": "second"}"#)
        .await;
    assert_eq!(id(&repeated), job.id);
    assert_eq!(stage.succeeded(job.id).await.output, Some(json!("first")));
    stage.clean_up().await;
}

#[tokio::test]
async fn a_key_whose_submission_failed_accepts_the_next_one() {
    let mut stage = Stage::start().await;
    let proxy = Proxy::of(stage.cluster.amqp_url()).await.unwrap();
    let url = proxy.url();
    stage.router = (stage.cluster.router(&["--amqp-url", url.expose()]).await).unwrap();
    let _worker = stage.timed("a").await;
    stage.succeeded(stage.submit("m", 1).await).await;
    proxy.shut();
    let headers = [(KEY, "k")];
    let refused = stage.post(TIMED, &headers, r#"{"run_ms": 5}"#).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stage.get("/v1/apps").await.body["apps"][0]["queued"], 0);
    proxy.reopen();
    let accepted = eventually("a submission is accepted", SOON, async || {
        let answer = stage.post(TIMED, &headers, r#"{"run_ms": 5}"#).await;
        (answer.status == StatusCode::OK).then(|| id(&answer))
    });
    stage.succeeded(accepted.await.unwrap()).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn one_failed_submission_does_not_take_the_job_from_another_that_was_accepted() {
    let stage = Stage::start().await;
    let store = stage.cluster.store();
    let job = JobSpec::new(TIMED.parse().unwrap(), json!({}));
    let key = "k".parse().unwrap();
    let terms = AdmissionRules {
        key: Some(&key),
        ..AdmissionRules::default()
    };
    store.admit(&job, terms).await.unwrap();
    let again = JobSpec::new(job.app.clone(), json!({}));
    let known = store.admit(&again, terms).await.unwrap();
    assert_eq!(known, Created::Known { id: job.id });
    // The first one's publish failed, the second one's did not.
    assert!(!store.discard(&job.app, job.id).await.unwrap());
    assert!(store.job(job.id).await.unwrap().is_some());
    // Had both failed, nothing would be left, and the key would stand for the same id.
    assert!(store.discard(&job.app, job.id).await.unwrap());
    assert!(store.job(job.id).await.unwrap().is_none());
    let anew = store.admit(&again, terms).await.unwrap();
    assert!(
        matches!(anew, Created::New { id, .. } if id == job.id),
        "{anew:?}"
    );
    stage.clean_up().await;
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_by_name() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let long = "x".repeat(256);
    for key in ["", &long, "a\tb"] {
        let answer = stage.post(TIMED, &[(KEY, key)], "{}").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "'{key}'");
        assert_eq!(answer.body["detail"][0]["loc"], json!(["header", KEY]));
    }
    let longest = "x".repeat(255);
    id(&stage.post(TIMED, &[(KEY, &longest)], "{}").await);
    stage.clean_up().await;
}

#[tokio::test]
async fn a_message_id_of_the_submitters_own_is_an_idempotency_key_at_both_doors() {
    let stage = Stage::start().await;
    let _worker = stage.timed("a").await;
    let user = AmqpUser::connect(&stage.cluster).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let first = id(&stage
        .post(TIMED, &[(KEY, "mine")], r#"{"run_ms": 5}"#)
        .await);
    stage.succeeded(first).await;
    let properties = with_hint("m").with_message_id("mine".into());
    user.submit(TIMED, r#"{"run_ms": 5}"#, properties).await;
    // One that is none is told, and named.
    let properties = BasicProperties::default()
        .with_message_id("a\nb".into())
        .with_reply_to(DIRECT_REPLY_TO.into());
    let app = TIMED.parse().unwrap();
    let mut dead = user
        .consume(&stage.cluster.topology().dead_queue(&app))
        .await;
    user.submit(TIMED, "{}", properties).await;
    let letter = next(&mut dead).await;
    assert!(header(&letter, "x-warmq-reason").contains("idempotency key"));
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["status"], "ERROR");
    // Two messages of one key: one job, found by HTTP under the same key.
    for _ in 0..2 {
        let properties = with_hint("m").with_message_id("theirs".into());
        user.submit(TIMED, r#"{"run_ms": 5, "output": "amqp"}"#, properties)
            .await;
    }
    let store = stage.cluster.store();
    let key = "theirs".parse().unwrap();
    let theirs = eventually("the job is known", SOON, async || {
        store.job_of_key(&app, None, &key).await.unwrap()
    });
    let theirs = theirs.await.unwrap();
    let by_http = stage.post(TIMED, &[(KEY, "theirs")], "{}").await;
    assert_eq!(id(&by_http), theirs);
    assert_eq!(stage.succeeded(theirs).await.output, Some(json!("amqp")));
    stage.clean_up().await;
}
