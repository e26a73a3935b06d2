//! A job that ended does not run again, wherever a copy of its message is left and however short its record is kept.

use lapin::Channel;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use reqwest::StatusCode;
use serde_json::json;
use warmq_broker::{Message, Topology};
use warmq_store::{AdmissionRules, Created};
use warmq_testkit::{Cluster, WorkerOptions, eventually};
use warmq_tests::Stage;
use warmq_tests::stage::{SOON, TIMED};
use warmq_types::attempt::Outcome;
use warmq_types::ids::{AppId, Epoch, JobId};
use warmq_types::job::{JobRecord, JobSpec, Priority};
use warmq_types::message::{DeferredResult, JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

/// The shortest retention there is.
const A_MINUTE: &str = "[apps.'bench/timed']\nretention = '1m'";

async fn redis(cluster: &Cluster) -> ConnectionManager {
    let client = redis::Client::open(cluster.redis_url().expose()).unwrap();
    client.get_connection_manager().await.unwrap()
}

fn key(cluster: &Cluster, app: &AppId, rest: &str) -> String {
    format!("{}:{{{app}}}:{rest}", cluster.namespace())
}

/// Its retention is over.
async fn forget(cluster: &Cluster, job: &JobSpec) {
    let record = key(cluster, &job.app, &format!("job:{}", job.id));
    let forgotten: u64 = redis(cluster).await.del(record).await.unwrap();
    assert_eq!(forgotten, 1);
}

/// A copy of the job's message goes to this exchange or, with an empty one, to this queue.
async fn copy(cluster: &Cluster, job: &JobSpec, exchange: &str, key: &str) {
    let message = Message::new(JobMessage::new(job.clone()).encode().unwrap());
    let published = cluster.publisher().publish(exchange, key, &message);
    published.await.unwrap();
}

async fn broker(cluster: &Cluster) -> (lapin::Connection, Channel) {
    let connection = warmq_broker::connect(cluster.amqp_url(), "warmq-tests")
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Waits until nothing is left in `queues`, not even unacknowledged: a job that is submitted then comes last.
async fn drained(stage: &Stage, queues: &[String]) {
    let (_connection, channel) = broker(&stage.cluster).await;
    stage
        .until("the copies are taken", SOON, async || {
            for queue in queues {
                if Topology::depth(&channel, queue).await.unwrap() > 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    // Copies come first in their lanes, and the one runner takes one job at a time.
    stage.succeeded(stage.submit("m", 1).await).await;
    stage.all_idle(TIMED).await;
}

#[tokio::test]
async fn no_copy_of_a_job_that_ended_runs_it_again_though_its_record_is_gone() {
    let stage = Stage::with_config(A_MINUTE).await;
    let cluster = &stage.cluster;
    let _worker = stage.timed("a").await;
    let app = AppId::parse(TIMED).unwrap();
    let topology = cluster.topology();
    let job = stage.succeeded(stage.submit("m", 1).await).await.spec;
    forget(cluster, &job).await;
    // The ways by which copies come: a runner's, a router's, a retry tier's, and an outage's.
    let dispatch = topology.dispatch_exchange();
    let tier = topology.retry_exchange(RetryTier::S1);
    let shared = topology.shared_queue(&app);
    for lane in [Priority::Normal, Priority::Low] {
        copy(cluster, &job, &dispatch, &topology.lane_key(&app, lane)).await;
    }
    copy(
        cluster,
        &job,
        &tier,
        &topology.lane_key(&app, Priority::Normal),
    )
    .await;
    copy(cluster, &job, "", &shared).await;
    let lanes = [Priority::Normal, Priority::Low].map(|lane| topology.backlog_queue(&app, lane));
    drained(&stage, &[[tier, shared].as_slice(), &lanes].concat()).await;
    assert_eq!(cluster.store().job(job.id).await.unwrap(), None);

    // A Redis that lost its data has lost what says that it ended.
    let tombstone = key(cluster, &app, &format!("job:{}:tombstone", job.id));
    let _: () = redis(cluster).await.del(tombstone).await.unwrap();
    copy(cluster, &job, &dispatch, TIMED).await;
    let again = eventually("the job is recorded again", SOON, async || {
        let record = cluster.store().job_of(&app, job.id).await.unwrap();
        record.filter(|record| record.state.is_terminal())
    });
    assert_eq!(again.await.unwrap().attempt, 1);
    stage.clean_up().await;
}

#[tokio::test]
async fn a_late_end_of_a_job_that_ended_is_dropped_though_its_record_is_gone() {
    let stage = Stage::with_config(A_MINUTE).await;
    let _worker = stage.timed("a").await;
    let cluster = &stage.cluster;
    let job = stage.succeeded(stage.submit("m", 1).await).await.spec;
    forget(cluster, &job).await;
    let incarnation = ("b".parse().unwrap(), Epoch(1));
    let outcome = (Outcome::Succeeded(json!("late")), Default::default());
    let end = DeferredResult::new(job.clone(), incarnation, 1, None, outcome);
    let message = Message::new(end.encode().unwrap());
    let late = cluster.topology().deferred_results_queue();
    (cluster.publisher().publish("", &late, &message).await).unwrap();
    drained(&stage, &[late]).await;
    assert_eq!(
        cluster.store().job_of(&job.app, job.id).await.unwrap(),
        None
    );
    stage.clean_up().await;
}

#[tokio::test]
async fn a_submission_that_was_taken_back_runs_only_if_it_is_repeated() {
    let stage = Stage::with_config("[apps.'bench/timed']").await;
    let cluster = &stage.cluster;
    let (store, app) = (cluster.store(), AppId::parse(TIMED).unwrap());
    let _worker = stage.timed("a").await;
    let job = JobSpec::new(app.clone(), json!({"run_ms": 1}));
    store.admit(&job, AdmissionRules::default()).await.unwrap();
    assert!(store.discard(&app, job.id).await.unwrap());
    // Its message arrived all the same.
    copy(
        cluster,
        &job,
        &cluster.topology().dispatch_exchange(),
        TIMED,
    )
    .await;
    let lane = cluster.topology().backlog_queue(&app, Priority::Normal);
    drained(&stage, &[lane]).await;
    assert_eq!(store.job_of(&app, job.id).await.unwrap(), None);
    let again = AdmissionRules {
        once: true,
        ..AdmissionRules::default()
    };
    let repeated = store.admit(&job, again).await.unwrap();
    assert!(matches!(repeated, Created::New { .. }), "{repeated:?}");
    copy(
        cluster,
        &job,
        &cluster.topology().dispatch_exchange(),
        TIMED,
    )
    .await;
    stage.succeeded(job.id).await;
    stage.clean_up().await;
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
async fn a_step_that_ended_is_not_run_again_though_its_record_is_gone() {
    let mut stage = Stage::with_config(FLOW).await;
    let _worker = stage.worker(WorkerOptions::timed("a", "acme/one")).await;
    let answer = stage.post("acme/both", &[], "{}").await;
    let flow: JobId = answer.body["request_id"].as_str().unwrap().parse().unwrap();
    let step = eventually("the first step runs", SOON, async || {
        let step = stage.job(flow).await.flow?.steps.first()?.job;
        let record = stage.cluster.store().job(step).await.unwrap()?;
        (record.state == JobState::Running).then_some(record.spec)
    });
    let step = step.await.unwrap();
    stage.router.kill9().await.unwrap();
    let record = eventually("the first step ended", SOON, async || {
        let record = stage
            .cluster
            .store()
            .job_of(&step.app, step.id)
            .await
            .unwrap();
        record.filter(|record: &JobRecord| record.state.is_terminal())
    });
    assert_eq!(record.await.unwrap().state, JobState::Succeeded);
    forget(&stage.cluster, &step).await;
    stage.router = stage.cluster.router(&[]).await.unwrap();
    let ended = stage.ended(flow).await;
    assert_eq!(ended.state, JobState::Failed);
    let reason = ended.error.unwrap().message;
    assert!(reason.contains("kept for too short a time"), "{reason}");
    let store = stage.cluster.store();
    assert_eq!(store.job_of(&step.app, step.id).await.unwrap(), None);
    stage.clean_up().await;
}

#[tokio::test]
async fn what_is_kept_to_find_a_job_by_goes_with_its_record_and_a_refusal_leaves_nothing() {
    let stage = Stage::with_config(A_MINUTE).await;
    let mut redis = redis(&stage.cluster).await;
    let bound = "/queue/bench/timed?fal_max_queue_length=0";
    let mut accepted = Vec::new();
    for _ in 0..4 {
        let answer = stage.http(reqwest::Method::POST, bound, &[], "{}").await;
        match answer.status {
            StatusCode::OK => accepted.push(answer.body["request_id"].as_str().unwrap().to_owned()),
            status => assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
        }
    }
    let pattern = format!("{}:job:*", stage.cluster.namespace());
    let index: Vec<String> = redis.keys(pattern).await.unwrap();
    let expected = format!("{}:job:{}", stage.cluster.namespace(), accepted[0]);
    assert_eq!((accepted.len(), index), (1, vec![expected.clone()]));
    let _worker = stage.timed("a").await;
    stage.succeeded(accepted[0].parse().unwrap()).await;
    eventually(
        "it can be found as long as its record is kept",
        SOON,
        async || {
            let ttl_s: i64 = redis.ttl(&expected).await.unwrap();
            (ttl_s <= 60).then_some(())
        },
    )
    .await
    .unwrap();
    stage.clean_up().await;
}
