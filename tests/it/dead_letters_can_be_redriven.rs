//! Dead letters are listed, redriven and discarded under `/v1/dead`.

use std::time::Duration;

use lapin::BasicProperties;
use reqwest::Method;
use serde_json::{Value, json};
use warmq_broker::DeadLetter;
use warmq_store::{Registration, StartSource};
use warmq_testkit::registration;
use warmq_tests::amqp::with_hint;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobError, JobSpec};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::state::JobState;

const CONFIG: &str = "[apps.'bench/timed']";

/// Waits until a path lists `count` letters, and returns them.
async fn letters(system: &System, path: &str, count: usize) -> Vec<Value> {
    system
        .until("the letters are there", TIMEOUT, async || {
            let body = system.get(path).await.body;
            let letters = body["letters"].as_array()?.clone();
            (letters.len() == count).then_some(letters)
        })
        .await
}

async fn post(system: &System, path: &str) -> HttpResponse {
    system.http(Method::POST, path, &[], "").await
}

/// Makes a job that lost its only attempt, as left by a dispatcher that died between two steps.
pub(crate) async fn quarantined(system: &System, app: &AppId) -> JobId {
    let store = system.testbed.store();
    let registration = registration(app, &"lost".parse().unwrap());
    let Registration { runner, epoch, .. } = &registration;
    store
        .membership()
        .register(&registration, &json!(true), Duration::from_secs(60))
        .await
        .unwrap();
    let job = JobSpec {
        max_attempts: 1,
        ..JobSpec::new(app.clone(), json!({"run_ms": 1, "load_ms": 1}))
    };
    store.jobs().create(&job).await.unwrap();
    let started = store
        .attempts()
        .start(app, job.id, runner, *epoch, 0, StartSource::Claim);
    started.await.unwrap();
    let loss = store.attempts().mark_lost(app, job.id).await.unwrap();
    assert_eq!(loss.unwrap().attempt, 1);
    store.membership().leave(app, runner, *epoch).await.unwrap();
    let error = JobError::quarantined(1, std::slice::from_ref(runner));
    let body = JobMessage::new(job.clone()).encode().unwrap();
    let letter = DeadLetter {
        id: job.id,
        ..DeadLetter::new(body, error.message.as_str())
    };
    let queue = system.testbed.topology().dead_queue(app);
    let message = letter.message();
    for _ in 0..2 {
        let publisher = system.testbed.publisher();
        publisher.publish("", &queue, &message).await.unwrap();
    }
    assert!(
        store
            .attempts()
            .quarantine(app, job.id, &error)
            .await
            .unwrap()
    );
    job.id
}

#[tokio::test]
async fn a_redriven_job_runs_under_its_id() {
    let system = System::with_config(CONFIG).await;
    let app: AppId = TIMED.parse().unwrap();
    let queue_path = format!("/v1/dead/{TIMED}");
    letters(&system, &queue_path, 0).await;
    let id = quarantined(&system, &app).await;
    assert_eq!(system.job(id).await.state, JobState::Failed);

    let found = letters(&system, &queue_path, 2).await;
    let reason = "it was running when its runner was lost: lost";
    assert_eq!(found[0]["reason"], reason);
    assert_eq!(
        (&found[0]["id"], &found[0]["kind"], &found[0]["place"]),
        (&json!(id), &json!("job"), &json!(TIMED))
    );
    assert!(found[0]["since_ms"].as_u64().unwrap() > 0);
    let letter = system.get(&format!("{queue_path}/{id}")).await.body;
    assert_eq!(letter["body"]["job"]["input"]["run_ms"], 1);
    // Reading leaves the letters in place.
    letters(&system, "/v1/dead", 2).await;

    let _worker = system.timed_worker("a").await;
    let answer = post(&system, &format!("{queue_path}/{id}/redrive")).await;
    assert_eq!(answer.body, json!({"job_id": id}));
    let job = system.succeeded(id).await;
    assert_eq!((job.attempt, job.fence.0), (1, 2));
    assert!(job.lost_runners.is_empty() && job.error.is_none());
    letters(&system, &queue_path, 0).await;
    let gone = post(&system, &format!("{queue_path}/{id}/redrive")).await;
    assert_eq!(gone.status, 404);
    system.cleanup().await;
}

#[tokio::test]
async fn redriving_a_refused_submission_submits_it_unchanged() {
    let system = System::start().await;
    let user = AmqpClient::connect(&system.testbed).await;
    let id = JobId::generate();
    let properties = with_hint("m").with_message_id(id.to_string().into());
    user.submit(TIMED, r#"{"run_ms": 1, "load_ms": 1}"#, properties)
        .await;
    user.submit("no/where", "{oops", BasicProperties::default())
        .await;
    let found = letters(&system, "/v1/dead/_/submissions", 2).await;
    let of_timed = |letter: &&Value| letter["reason"].as_str().unwrap().contains(TIMED);
    let path = |letter: &Value| {
        let id = letter["id"].as_str().unwrap();
        format!("/v1/dead/_/submissions/{id}")
    };
    let good = path(found.iter().find(of_timed).unwrap());
    let bad = path(found.iter().find(|letter| !of_timed(letter)).unwrap());
    let whole = system.get(&bad).await.body;
    assert_eq!(whole["kind"], "submission");
    assert_eq!(
        (&whole["routing_key"], &whole["body"]),
        (&json!("no/where"), &json!("{oops"))
    );

    // The app exists now, so the same submission is valid.
    let _worker = system.timed_worker("a").await;
    let answer = post(&system, &format!("{good}/redrive")).await;
    assert_eq!(answer.body, json!({"job_id": id}));
    system
        .until("it is a job", TIMEOUT, async || {
            system.testbed.store().jobs().job(id).await.unwrap()
        })
        .await;
    assert_eq!(system.succeeded(id).await.spec.hint.unwrap().as_str(), "m");

    let throw_away = async || system.http(Method::DELETE, &bad, &[], "").await.status;
    assert_eq!(throw_away().await, 204);
    letters(&system, "/v1/dead", 0).await;
    assert_eq!(throw_away().await, 404);
    assert_eq!(system.get("/v1/dead/no/where").await.status, 404);
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_dead_letter_stays_until_it_is_discarded() {
    let system = System::with_config(CONFIG).await;
    let queue_path = format!("/v1/dead/{TIMED}");
    letters(&system, &queue_path, 0).await;
    let app: AppId = TIMED.parse().unwrap();
    let letter = DeadLetter::new(b"noise".to_vec(), "chosen by a test");
    let path = format!("{queue_path}/{}", letter.id);
    let queue = system.testbed.topology().dead_queue(&app);
    let publisher = system.testbed.publisher();
    publisher
        .publish("", &queue, &letter.message())
        .await
        .unwrap();
    let refused = post(&system, &format!("{path}/redrive")).await;
    assert_eq!(refused.status, 400, "{:?}", refused.body);
    letters(&system, &queue_path, 1).await;
    assert_eq!(
        system.http(Method::DELETE, &path, &[], "").await.status,
        204
    );
    letters(&system, &queue_path, 0).await;
    system.cleanup().await;
}
