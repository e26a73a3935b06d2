//! An ended job does not run again, wherever copies of its message are and however short its
//! retention is.

use lapin::Channel;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use reqwest::StatusCode;
use serde_json::json;
use warmq_broker::{Message, Topology};
use warmq_store::{AdmissionRules, Created};
use warmq_testkit::{Testbed, WorkerOptions, eventually};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::attempt::Outcome;
use warmq_types::ids::{AppId, Epoch};
use warmq_types::job::{JobRecord, JobSpec, Priority};
use warmq_types::message::{DeferredResult, JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

/// The shortest retention.
const A_MINUTE: &str = "[apps.'bench/timed']\nretention = '1m'";

async fn redis(testbed: &Testbed) -> ConnectionManager {
    let client = redis::Client::open(testbed.redis_url().expose()).unwrap();
    client.get_connection_manager().await.unwrap()
}

fn key(testbed: &Testbed, app: &AppId, rest: &str) -> String {
    format!("{}:{{{app}}}:{rest}", testbed.namespace())
}

/// Deletes the record, as at the end of its retention.
async fn forget(testbed: &Testbed, job: &JobSpec) {
    let record = key(testbed, &job.app, &format!("job:{}", job.id));
    let forgotten: u64 = redis(testbed).await.del(record).await.unwrap();
    assert_eq!(forgotten, 1);
}

/// Publishes a copy of the job's message to an exchange or, if that is empty, to a queue.
async fn copy(testbed: &Testbed, job: &JobSpec, exchange: &str, key: &str) {
    let message = Message::new(JobMessage::new(job.clone()).encode().unwrap());
    let published = testbed.publisher().publish(exchange, key, &message);
    published.await.unwrap();
}

async fn broker(testbed: &Testbed) -> (lapin::Connection, Channel) {
    let connection = warmq_broker::connect(testbed.amqp_url(), "warmq-tests")
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Waits until `queues` are empty, unacknowledged messages included, so that the next job comes
/// last.
async fn drained(system: &System, queues: &[String]) {
    let (_connection, channel) = broker(&system.testbed).await;
    system
        .until("the copies are taken", TIMEOUT, async || {
            for queue in queues {
                if Topology::depth(&channel, queue).await.unwrap() > 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    // Copies come first in their lanes, and the one runner takes one job at a time.
    system.succeeded(system.submit("m", 1).await).await;
    system.all_idle(TIMED).await;
}

#[tokio::test]
async fn a_copy_of_an_ended_job_does_not_run_although_its_record_expired() {
    let system = System::with_config(A_MINUTE).await;
    let testbed = &system.testbed;
    let _worker = system.timed_worker("a").await;
    let app = AppId::parse(TIMED).unwrap();
    let topology = testbed.topology();
    let job = system.succeeded(system.submit("m", 1).await).await.spec;
    forget(testbed, &job).await;
    // The sources of copies: a runner, a router, a retry tier, an outage.
    let dispatch = topology.dispatch_exchange();
    let tier = topology.retry_exchange(RetryTier::S1);
    let shared = topology.shared_queue(&app);
    for lane in [Priority::Normal, Priority::Low] {
        copy(testbed, &job, &dispatch, &topology.lane_key(&app, lane)).await;
    }
    copy(
        testbed,
        &job,
        &tier,
        &topology.lane_key(&app, Priority::Normal),
    )
    .await;
    copy(testbed, &job, "", &shared).await;
    let lanes = [Priority::Normal, Priority::Low].map(|lane| topology.lane_queue(&app, lane));
    drained(&system, &[[tier, shared].as_slice(), &lanes].concat()).await;
    assert_eq!(testbed.store().jobs().job(job.id).await.unwrap(), None);

    // A Redis without data has no tombstone either.
    let tombstone = key(testbed, &app, &format!("job:{}:tombstone", job.id));
    let _: () = redis(testbed).await.del(tombstone).await.unwrap();
    copy(testbed, &job, &dispatch, TIMED).await;
    let again = eventually("the job is recorded again", TIMEOUT, async || {
        let record = testbed.store().jobs().job_of(&app, job.id).await.unwrap();
        record.filter(|record| record.state.is_terminal())
    });
    assert_eq!(again.await.unwrap().attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_deferred_result_of_an_ended_job_is_dropped_although_its_record_expired() {
    let system = System::with_config(A_MINUTE).await;
    let _worker = system.timed_worker("a").await;
    let testbed = &system.testbed;
    let job = system.succeeded(system.submit("m", 1).await).await.spec;
    forget(testbed, &job).await;
    let incarnation = ("b".parse().unwrap(), Epoch(1));
    let outcome = (Outcome::Succeeded(json!("late")), Default::default());
    let end = DeferredResult::new(job.clone(), incarnation, 1, None, outcome);
    let message = Message::new(end.encode().unwrap());
    let late = testbed.topology().deferred_results_queue();
    (testbed.publisher().publish("", &late, &message).await).unwrap();
    drained(&system, &[late]).await;
    assert_eq!(
        testbed
            .store()
            .jobs()
            .job_of(&job.app, job.id)
            .await
            .unwrap(),
        None
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_withdrawn_submission_runs_only_if_it_is_repeated() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let testbed = &system.testbed;
    let (store, app) = (testbed.store(), AppId::parse(TIMED).unwrap());
    let _worker = system.timed_worker("a").await;
    let job = JobSpec::new(app.clone(), json!({"run_ms": 1}));
    store
        .jobs()
        .admit(&job, AdmissionRules::default())
        .await
        .unwrap();
    assert!(store.jobs().withdraw(&app, job.id).await.unwrap());
    // The message was delivered all the same.
    copy(
        testbed,
        &job,
        &testbed.topology().dispatch_exchange(),
        TIMED,
    )
    .await;
    let lane = testbed.topology().lane_queue(&app, Priority::Normal);
    drained(&system, &[lane]).await;
    assert_eq!(store.jobs().job_of(&app, job.id).await.unwrap(), None);
    let again = AdmissionRules {
        once: true,
        ..AdmissionRules::default()
    };
    let repeated = store.jobs().admit(&job, again).await.unwrap();
    assert!(matches!(repeated, Created::New { .. }), "{repeated:?}");
    copy(
        testbed,
        &job,
        &testbed.topology().dispatch_exchange(),
        TIMED,
    )
    .await;
    system.succeeded(job.id).await;
    system.cleanup().await;
}

const FLOW: &str = r#"
    [apps."acme/one"]
    [apps."acme/two"]
    [routes."acme/both"]
    kind = "sequence"
    steps = [
      { name = "one", app = "acme/one", input = { output = "input", run_ms = 1500 } },
      { name = "two", app = "acme/two", input = { output = "input" } },
    ]
"#;

#[tokio::test]
async fn an_ended_step_does_not_run_again_although_its_record_expired() {
    let mut system = System::with_config(FLOW).await;
    let _worker = system.worker(WorkerOptions::timed("a", "acme/one")).await;
    let answer = system.post("acme/both", &[], "{}").await;
    let flow = answer.job_id();
    let step = eventually("the first step runs", TIMEOUT, async || {
        let step = system.job(flow).await.flow?.steps.first()?.job;
        let record = system.testbed.store().jobs().job(step).await.unwrap()?;
        (record.state == JobState::Running).then_some(record.spec)
    });
    let step = step.await.unwrap();
    system.router.kill9().await.unwrap();
    let record = eventually("the first step ended", TIMEOUT, async || {
        let record = system
            .testbed
            .store()
            .jobs()
            .job_of(&step.app, step.id)
            .await
            .unwrap();
        record.filter(|record: &JobRecord| record.state.is_terminal())
    });
    assert_eq!(record.await.unwrap().state, JobState::Succeeded);
    forget(&system.testbed, &step).await;
    system.router = system.testbed.router(&[]).await.unwrap();
    let ended = system.ended(flow).await;
    assert_eq!(ended.state, JobState::Failed);
    let reason = ended.error.unwrap().message;
    assert!(reason.contains("its retention was too short"), "{reason}");
    let store = system.testbed.store();
    assert_eq!(store.jobs().job_of(&step.app, step.id).await.unwrap(), None);
    system.cleanup().await;
}

#[tokio::test]
async fn index_entries_expire_with_the_record_and_a_refusal_leaves_none() {
    let system = System::with_config(A_MINUTE).await;
    let mut redis = redis(&system.testbed).await;
    let bound = "/queue/bench/timed?fal_max_queue_length=0";
    let mut accepted = Vec::new();
    for _ in 0..4 {
        let answer = system.http(reqwest::Method::POST, bound, &[], "{}").await;
        match answer.status {
            StatusCode::OK => accepted.push(answer.body["request_id"].as_str().unwrap().to_owned()),
            status => assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
        }
    }
    let pattern = format!("{}:job:*", system.testbed.namespace());
    let index: Vec<String> = redis.keys(pattern).await.unwrap();
    let expected = format!("{}:job:{}", system.testbed.namespace(), accepted[0]);
    assert_eq!((accepted.len(), index), (1, vec![expected.clone()]));
    let _worker = system.timed_worker("a").await;
    system.succeeded(accepted[0].parse().unwrap()).await;
    eventually(
        "it can be found as long as its record is kept",
        TIMEOUT,
        async || {
            let ttl_s: i64 = redis.ttl(&expected).await.unwrap();
            (ttl_s <= 60).then_some(())
        },
    )
    .await
    .unwrap();
    system.cleanup().await;
}
