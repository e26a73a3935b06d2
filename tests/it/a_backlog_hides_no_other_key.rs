//! Jobs of a key that fill a lane move to an overflow queue, so another key's job is dispatched
//! although that backlog remains; and no job in such a queue is lost, repeated or published again.

use std::time::Duration;

use futures::{StreamExt, stream};
use redis::AsyncCommands;
use reqwest::{Method, StatusCode};
use warmq_broker::{Message, Topology};
use warmq_cli::client::Client;
use warmq_store::QueueDepths;
use warmq_testkit::{Builder, PrivateRedis, Testbed, Worker, WorkerOptions, eventually};
use warmq_tests::System;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::access::{Limits, NewKey};
use warmq_types::ids::{AppId, JobId, KeyId};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::owner_lane::OwnerLane;
use warmq_types::queue_type::QueueType;
use warmq_types::state::JobState;

/// The configured admin key.
const ROOT: &str = "root:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// Messages that a lane delivers before one is acknowledged.
const PREFETCH: usize = 1000;

/// Jobs of a key alone that the dispatcher holds in a lane; further ones move.
const SHARE: usize = (PREFETCH - 64) / 2;

/// Unacknowledged messages of an overflow queue.
const OVERFLOW_PREFETCH: usize = 250;

const CONCURRENT: usize = 32;

/// Timeout of a thousand jobs on a busy machine.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(90);

fn app() -> AppId {
    AppId::parse(TIMED).unwrap()
}

/// A key of a tenant.
struct Key {
    id: KeyId,
    credentials: String,
}

impl Key {
    async fn create(system: &System, name: &str) -> Self {
        let root = Client::new(system.router.url(), Some(ROOT)).unwrap();
        let scopes = ["submit:*", "read"].map(|scope| scope.parse().unwrap());
        let wanted = NewKey {
            name: name.parse().unwrap(),
            scopes: scopes.into_iter().collect(),
            limits: Limits::default(),
        };
        let created = root.create_key(&wanted).await.unwrap();
        Self {
            id: created.key.id,
            credentials: created.credentials,
        }
    }

    /// Submits a job for this model.
    async fn submit(&self, system: &System, model: &str, priority: &str, input: &str) -> JobId {
        let authorization = format!("Key {}", self.credentials);
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-fal-runner-hint", model),
            ("x-fal-queue-priority", priority),
        ];
        system.post(TIMED, &headers, input).await.job_id()
    }

    /// Submits many jobs.
    async fn flood(
        &self,
        system: &System,
        model: &str,
        priority: &str,
        jobs: usize,
        input: &str,
    ) -> Vec<JobId> {
        let submitted = stream::iter(0..jobs);
        let submitted = submitted.map(|_| self.submit(system, model, priority, input));
        submitted.buffer_unordered(CONCURRENT).collect().await
    }

    fn in_lane(&self, lane: &str) -> OwnerLane {
        OwnerLane::parse(&format!("{lane}.{}", self.id)).unwrap()
    }
}

/// Starts a router that requires keys.
async fn keyed(testbed: Builder) -> System {
    let toml = format!("admin_key = '{ROOT}'\nreconcile_after = '1s'\n[apps.'{TIMED}']\n");
    System::of(testbed.config(toml).start().await.unwrap()).await
}

async fn two_keys(system: &System) -> [Key; 2] {
    [
        Key::create(system, "alice").await,
        Key::create(system, "bob").await,
    ]
}

/// Waits until an overflow queue contains this many messages that were not delivered.
async fn overflowed(system: &System, jobs: &OwnerLane, messages: usize) {
    let listed = system.testbed.store().overflow_queues();
    let queue = system.testbed.topology().overflow_queue(&app(), jobs);
    system
        .until("the overflow queue is declared", TIMEOUT, async || {
            let listed = listed.all(&app()).await.unwrap();
            let connection = system.testbed.publisher().channel().await.unwrap();
            let declared = Topology::depth(&connection, &queue);
            (listed.contains(jobs) && declared.await.is_ok()).then_some(())
        })
        .await;
    system
        .until_depth(&queue, u32::try_from(messages).unwrap())
        .await;
}

/// Waits until the app has no overflow queue, in Redis and in RabbitMQ.
async fn none_left(system: &System, queues: &[OwnerLane]) {
    let store = system.testbed.store();
    eventually("no overflow queue is listed", TIMEOUT, async || {
        let listed = store.overflow_queues().all(&app()).await.unwrap();
        listed.is_empty().then_some(())
    })
    .await
    .unwrap();
    for jobs in queues {
        let queue = system.testbed.topology().overflow_queue(&app(), jobs);
        let url = system.testbed.amqp_url();
        let connection = warmq_broker::connect(url, "warmq-tests").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        assert!(Topology::depth(&channel, &queue).await.is_err(), "{queue}");
    }
}

/// Returns the metric of the number of overflow queues.
async fn shown_queues(system: &System) -> Option<f64> {
    let authorization = format!("Key {ROOT}");
    let headers = [("authorization", authorization.as_str())];
    let page = system.http(Method::GET, "/metrics", &headers, "").await;
    let page = String::from_utf8(page.bytes).unwrap();
    Page::read(&page).get("warmq_overflow_queues", &[("app", TIMED)])
}

/// Waits until all jobs succeeded, each in its first attempt.
async fn each_ran_once(system: &System, jobs: &[JobId]) {
    for id in jobs {
        let job = system.ended_within(*id, BACKLOG_TIMEOUT).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1), "{id}");
    }
}

async fn fast_workers(system: &System) -> Worker {
    let options = WorkerOptions::timed("fast", TIMED).args(["--concurrency", "4"]);
    system.worker(options).await
}

/// The input of a job that takes no time.
const FAST: &str = r#"{"run_ms": 0, "load_ms": 0}"#;

#[tokio::test]
async fn a_job_ends_although_another_keys_backlog_fills_the_lane() {
    let system = keyed(Testbed::builder()).await;
    let runner = |name, model| WorkerOptions::timed(name, TIMED).args(["--only", model]);
    let _busy = system.worker(runner("busy", "m")).await;
    let _free = system.worker(runner("free", "n")).await;
    let [alice, bob] = two_keys(&system).await;
    let slow = r#"{"run_ms": 600000, "load_ms": 0}"#;
    let backlog = alice.flood(&system, "m", "normal", 1500, slow).await;
    let late = bob.submit(&system, "n", "normal", FAST).await;
    system.succeeded(late).await;
    let queue = alice.in_lane("normal");
    overflowed(&system, &queue, 1500 - 1 - SHARE - OVERFLOW_PREFETCH).await;
    let mut waiting = 0;
    for id in backlog {
        waiting += usize::from(system.job(id).await.state == JobState::Queued);
    }
    assert_eq!(waiting, 1499);
    let listed = system.testbed.store().overflow_queues().all(&app()).await;
    assert_eq!(listed.unwrap(), [queue], "bob's job stayed in the lane");
    assert_eq!(shown_queues(&system).await, Some(1.0));
    system.cleanup().await;
}

#[tokio::test]
async fn without_a_second_key_every_job_stays_in_its_lane() {
    let system = keyed(Testbed::builder()).await;
    let (id, _) = ROOT.split_once(':').unwrap();
    let root = Key {
        id: id.parse().unwrap(),
        credentials: ROOT.to_owned(),
    };
    root.flood(&system, "m", "normal", PREFETCH + 50, FAST)
        .await;
    let lane = system.testbed.topology();
    let lane = lane.lane_queue(&app(), OwnerLane::parse("normal").unwrap().lane);
    system.until_depth(&lane, 50).await;
    none_left(&system, &[root.in_lane("normal")]).await;
    system.cleanup().await;
}

/// Lets two keys overflow, kills the router, and lets all jobs run.
async fn overflow_survives_the_router(queue_type: QueueType) {
    let mut system = keyed(Testbed::builder().queue_type(queue_type)).await;
    let [alice, bob] = two_keys(&system).await;
    // Repeated, since a queue of the same name is declared again.
    for _ in 0..2 {
        let mut jobs = alice.flood(&system, "m", "normal", 900, FAST).await;
        jobs.extend(bob.flood(&system, "n", "low", 800, FAST).await);
        let queues = [alice.in_lane("normal"), bob.in_lane("low")];
        for queue in &queues {
            overflowed(&system, queue, 1).await;
        }
        // In the overflow queue, or soon there.
        let cancelled = alice.submit(&system, "m", "normal", FAST).await;
        let path = format!("/v1/jobs/{cancelled}");
        let authorization = format!("Key {ROOT}");
        let headers = [("authorization", authorization.as_str())];
        let answer = system.http(Method::DELETE, &path, &headers, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);

        system.router.kill9().await.unwrap();
        system.router = system.testbed.router(&[]).await.unwrap();
        let worker = fast_workers(&system).await;
        each_ran_once(&system, &jobs).await;
        let job = system.job(cancelled).await;
        assert_eq!((job.state, job.attempt), (JobState::Cancelled, 0));
        none_left(&system, &queues).await;
        drop(worker);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_in_overflow_queues_run_once_although_the_router_is_killed() {
    overflow_survives_the_router(QueueType::Classic).await;
}

#[tokio::test]
async fn jobs_in_overflow_quorum_queues_run_once_although_the_router_is_killed() {
    overflow_survives_the_router(QueueType::Quorum).await;
}

#[tokio::test]
async fn a_session_with_policy_fal_takes_what_a_dead_leader_left_in_overflow_queues() {
    let toml = format!("[apps.'{TIMED}']\npolicy = 'fal'\n");
    let testbed = Testbed::builder().config(toml).start().await.unwrap();
    let (topology, publisher) = (testbed.topology(), testbed.publisher());
    let channel = publisher.channel().await.unwrap();
    let queues = ["normal.alice-1", "low.bob-1"].map(|text| OwnerLane::parse(text).unwrap());
    let listed = testbed.store().overflow_queues();
    listed.add(&app(), &queues).await.unwrap();
    let mut jobs = Vec::new();
    for queue in &queues {
        topology
            .declare_overflow(&channel, &app(), queue)
            .await
            .unwrap();
        for _ in 0..5 {
            // Redis lost their records.
            let job = JobSpec {
                owner: queue.owner.clone(),
                priority: queue.lane,
                ..JobSpec::new(app(), serde_json::json!({"run_ms": 0}))
            };
            jobs.push(job.id);
            let body = JobMessage::new(job).encode().unwrap();
            let queue = topology.overflow_queue(&app(), queue);
            let message = Message::new(body);
            publisher.publish("", &queue, &message).await.unwrap();
        }
    }
    let system = System::of(testbed).await;
    // Before any runner: the list alone shows that the app needs a dispatcher.
    system
        .reached_once_recorded(jobs[0], JobState::Dispatched)
        .await;
    let _worker = fast_workers(&system).await;
    for id in jobs {
        let job = system.reached_once_recorded(id, JobState::Succeeded).await;
        assert_eq!(job.attempt, 1);
    }
    none_left(&system, &queues).await;
    system.cleanup().await;
}

#[tokio::test]
async fn while_redis_is_away_overflow_queues_drain_into_the_shared_queue() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let system = keyed(Testbed::builder().redis_url(redis.url().expose())).await;
    let [alice, _] = two_keys(&system).await;
    let jobs = alice.flood(&system, "m", "normal", 900, FAST).await;
    let queue = alice.in_lane("normal");
    overflowed(&system, &queue, 1).await;
    redis.kill9().await.unwrap();
    let shared = system.testbed.topology().shared_queue(&app());
    system.until_depth(&shared, 900).await;
    redis.restart().await.unwrap();
    let _worker = fast_workers(&system).await;
    each_ran_once(&system, &jobs).await;
    none_left(&system, &[queue]).await;
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_in_overflow_queues_are_not_published_again_and_another_keys_lost_one_is() {
    let system = keyed(Testbed::builder()).await;
    let [alice, bob] = two_keys(&system).await;
    let backlog = alice.flood(&system, "m", "normal", 1100, FAST).await;
    let moved = 1100 - SHARE;
    overflowed(&system, &alice.in_lane("normal"), moved - OVERFLOW_PREFETCH).await;
    // As if their messages were lost. The leader finds the first one after it examined all of the
    // backlog, which is older, and the second one after it examined the backlog again.
    let store = system.testbed.store();
    for _ in 0..2 {
        let lost = JobSpec {
            owner: Some(bob.id.clone()),
            ..JobSpec::new(app(), serde_json::json!({"run_ms": 0}))
        };
        store.jobs().create(&lost).await.unwrap();
        let held = async || system.job(lost.id).await.hold;
        eventually("the lost message is found", TIMEOUT, held)
            .await
            .unwrap();
    }
    let client = redis::Client::open(system.testbed.redis_url().expose()).unwrap();
    let mut redis = client.get_connection_manager().await.unwrap();
    for id in &backlog {
        let record = format!("{}:{{{TIMED}}}:job:{id}", system.testbed.namespace());
        let published_ms: Option<u64> = redis.hget(record, "reconciled_ms").await.unwrap();
        assert_eq!(published_ms, None, "{id} was published again");
    }
    let queue = alice.in_lane("normal");
    let queue = system.testbed.topology().overflow_queue(&app(), &queue);
    let channel = system.testbed.publisher().channel().await.unwrap();
    let depth = Topology::depth(&channel, &queue).await.unwrap();
    assert_eq!(depth as usize, moved - OVERFLOW_PREFETCH);
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_counts_as_lost_once_the_overflow_queue_of_its_owner_has_passed_it() {
    let testbed = Testbed::builder().start().await.unwrap();
    let store = testbed.store();
    let owner = Some("alice-1".parse().unwrap());
    let job = JobSpec {
        owner: owner.clone(),
        ..JobSpec::new(app(), serde_json::json!({}))
    };
    store.jobs().create(&job).await.unwrap();
    let created_ms = store.jobs().job(job.id).await.unwrap().unwrap();
    let created_ms = created_ms.spec.created_ms;
    let is_lost = async |jobs: &str, overflow_passed_ms: u64| {
        let depths = QueueDepths {
            normal_passed_ms: u64::MAX,
            low_passed_ms: u64::MAX,
            shared_empty: true,
            overflows: vec![(OwnerLane::parse(jobs).unwrap(), overflow_passed_ms)],
        };
        let (app, reconcile) = (app(), store.maintenance());
        let lost = reconcile.reconcile(&app, job.id, Duration::ZERO, &depths);
        lost.await.unwrap()
    };
    assert!(!is_lost("normal.alice-1", created_ms - 1).await);
    assert!(is_lost("normal.alice-1", created_ms).await);
    for others in ["low.alice-1", "normal.bob-1", "normal"] {
        eventually("it is not there, so it is lost", TIMEOUT, async || {
            is_lost(others, 0).await.then_some(())
        })
        .await
        .unwrap();
    }
    testbed.cleanup().await.unwrap();
}
