//! A record that cannot be read, written by another version or damaged, affects only its own job.

use lapin::BasicProperties;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use reqwest::StatusCode;
use serde_json::json;
use warmq_broker::Message;
use warmq_testkit::WorkerOptions;
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next, with_id};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, JobMessage, Versioned};
use warmq_types::state::JobState;

const OTHER: &str = "other/app";

async fn redis(system: &System) -> ConnectionManager {
    let client = redis::Client::open(system.testbed.redis_url().expose()).unwrap();
    client.get_connection_manager().await.unwrap()
}

fn record_key(system: &System, app: &str, job: JobId) -> String {
    format!("{}:{{{app}}}:job:{job}", system.testbed.namespace())
}

/// Makes a field of the job's record unreadable.
async fn damage(system: &System, app: &str, job: JobId, field: &str) {
    let key = record_key(system, app, job);
    let _: () = redis(system)
        .await
        .hset(key, field, "{of another version")
        .await
        .unwrap();
}

async fn announce(system: &System, job: &JobSpec, state: JobState) {
    let topology = system.testbed.topology();
    let event = Message::new(JobEvent::new(job, state).encode().unwrap());
    let (exchange, key) = (
        topology.events_exchange(),
        topology.event_key(job, state, true).unwrap(),
    );
    let announced = system.testbed.publisher().announce(&exchange, &key, &event);
    announced.await.unwrap();
}

#[tokio::test]
async fn replies_of_other_jobs_are_sent() {
    let system = System::with_config("[apps.'bench/timed']\n[apps.'other/app']").await;
    let _worker = system.timed_worker("a").await;
    let _other = system.worker(WorkerOptions::timed("b", OTHER)).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let bad = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 1}"#, with_id(bad, DIRECT_REPLY_TO))
        .await;
    assert_eq!(body_of(&next(&mut replies).await)["request_id"], json!(bad));
    let mut spec = system
        .reached_once_recorded(bad, JobState::Succeeded)
        .await
        .spec;
    for field in ["decision", "attempt", "output", "reply_to"] {
        damage(&system, TIMED, bad, field).await;
    }
    // With an address whose delivery is open, so that the record is read.
    spec.reply_to.as_mut().unwrap().correlation_id = Some("another".to_owned());
    for _ in 0..3 {
        announce(&system, &spec, JobState::Succeeded).await;
    }
    let good = JobId::generate();
    user.submit(OTHER, r#"{"run_ms": 1}"#, with_id(good, DIRECT_REPLY_TO))
        .await;
    assert_eq!(
        body_of(&next(&mut replies).await)["request_id"],
        json!(good)
    );

    // Submissions and lists of apps continue to work.
    user.submit(
        TIMED,
        "{}",
        BasicProperties::default().with_message_id(bad.to_string().into()),
    )
    .await;
    let last = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 1}"#, with_id(last, DIRECT_REPLY_TO))
        .await;
    assert_eq!(
        body_of(&next(&mut replies).await)["request_id"],
        json!(last)
    );
    let shown = system.get(&format!("/v1/jobs/{bad}")).await;
    assert_eq!(shown.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(system.get("/v1/apps").await.status, StatusCode::OK);
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_behind_a_bad_record_are_dispatched() {
    let system = System::with_config("reconcile_after = '1s'\n[apps.'bench/timed']").await;
    let (store, app) = (system.testbed.store(), AppId::parse(TIMED).unwrap());
    let topology = system.testbed.topology();
    // One of each kind: a field that no script reads, numbers, and a value that is no record.
    let fields = [
        "decision",
        "created_ms",
        "attempt",
        "lease_until",
        "max_attempts",
        "lost_runners",
        "start_by_ms",
    ];
    let mut bad = Vec::new();
    for field in fields.into_iter().chain(["", "quarantined"]) {
        let job = JobSpec::new(app.clone(), json!({"run_ms": 1}));
        store.jobs().create(&job).await.unwrap();
        let key = record_key(&system, TIMED, job.id);
        match field {
            "" => {
                let mut redis = redis(&system).await;
                let _: () = redis.del(&key).await.unwrap();
                let _: () = redis.set(&key, "no hash").await.unwrap();
            }
            // All its attempts are used, and its record cannot be read.
            "quarantined" => {
                let _: () = redis(&system)
                    .await
                    .hset(&key, "attempt", 10)
                    .await
                    .unwrap();
                damage(&system, TIMED, job.id, "decision").await;
            }
            field => damage(&system, TIMED, job.id, field).await,
        }
        bad.push(job);
    }
    for set in ["start_deadlines", "lost_runner_jobs", "outbox"] {
        let key = format!("{}:{{{TIMED}}}:{set}", system.testbed.namespace());
        let members: Vec<(u64, String)> = bad.iter().map(|job| (1, job.id.to_string())).collect();
        let _: () = redis(&system)
            .await
            .zadd_multiple(key, &members)
            .await
            .unwrap();
    }
    for job in &bad {
        let message = Message::new(JobMessage::new(job.clone()).encode().unwrap());
        let (publisher, exchange) = (system.testbed.publisher(), topology.dispatch_exchange());
        publisher.publish(&exchange, TIMED, &message).await.unwrap();
    }
    let _worker = system.timed_worker("a").await;
    // Rounds of maintenance pass meanwhile.
    for _ in 0..4 {
        system.succeeded(system.submit("m", 1500).await).await;
    }
    let log = std::fs::read_to_string(system.router.log()).unwrap();
    assert!(
        !log.contains("dispatching failed"),
        "no session of the dispatcher broke"
    );
    // The quarantined job is in the dead-letter queue.
    let letters = system.get(&format!("/v1/dead/{TIMED}")).await.body;
    let letters = letters["letters"].as_array().unwrap().len();
    assert!(letters >= 2, "{letters}");
    system.cleanup().await;
}
