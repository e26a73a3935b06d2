//! Idle apps cost a router almost nothing, and are dispatched as soon as they are used.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use reqwest::Method;
use serde_json::json;
use warmq_broker::{Message, Topology};
use warmq_store::{Registration, Store};
use warmq_testkit::{
    PrivateRabbit, PrivateRedis, Testbed, WorkerOptions, eventually, registration,
};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::job::{JobSpec, Priority};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::state::JobState;

const APPS: usize = 200;

/// Duration of a count of commands.
const COUNT_PERIOD: Duration = Duration::from_secs(10);

/// A runner's lease and the interval of its renewals.
const LEASE: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Timeout for the end of an unused app's dispatcher, with room for a busy machine.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Returns how many commands Redis processed, those of scripts included.
async fn commands(redis: &PrivateRedis) -> u64 {
    redis.stat("total_commands_processed").await.unwrap()
}

fn app(number: usize) -> AppId {
    AppId::parse(&format!("idle/app-{number}")).unwrap()
}

/// Returns whether the app's lanes are declared.
async fn has_queues(testbed: &Testbed, app: &AppId) -> bool {
    let channel = testbed.publisher().channel().await.unwrap();
    let queue = testbed.topology().lane_queue(app, Priority::Low);
    Topology::depth(&channel, &queue).await.is_ok()
}

/// Returns how many dispatchers consume an app's lane; 0 before it is declared.
async fn consumers(testbed: &Testbed, app: &AppId) -> u32 {
    let channel = testbed.publisher().channel().await.unwrap();
    let queue = testbed.topology().lane_queue(app, Priority::Normal);
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
    declared.await.map_or(0, |queue| queue.consumer_count())
}

#[tokio::test]
async fn two_hundred_idle_apps_cost_a_router_little_memory_and_few_commands() {
    let redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let testbed = testbed.start().await.unwrap();
    for number in 0..APPS {
        testbed
            .store()
            .apps_in_use()
            .remember_app(&app(number))
            .await
            .unwrap();
    }
    let system = System::of(testbed).await;
    for number in 0..APPS {
        let what = format!("the queues of app {number} are declared");
        eventually(&what, TIMEOUT, async || {
            has_queues(&system.testbed, &app(number))
                .await
                .then_some(())
        })
        .await
        .unwrap();
    }
    let per_second = commands_per_second(&redis).await;
    let resident = system.router.resident_bytes().unwrap() >> 20;
    println!("{APPS} idle apps: {resident} MiB, {per_second} Redis commands/s");
    assert!(per_second < 400, "{per_second} commands/s");
    assert!(resident < 200, "{resident} MiB");
    system.cleanup().await;
}

/// Returns the commands that Redis processes per second.
async fn commands_per_second(redis: &PrivateRedis) -> u64 {
    let before = commands(redis).await;
    tokio::time::sleep(COUNT_PERIOD).await;
    (commands(redis).await - before) / COUNT_PERIOD.as_secs()
}

/// Returns the registration of an app's idle runner.
fn idle_runner(app: AppId) -> Registration {
    registration(&app, &RunnerId::parse("idle").unwrap())
}

/// Sends a heartbeat of the idle runner of every app.
async fn heartbeats(store: &Store) {
    for number in 0..APPS {
        let Registration { runner, epoch, .. } = idle_runner(app(number));
        let app = app(number);
        let heartbeat = store
            .membership()
            .heartbeat(&app, &runner, epoch, LEASE, false);
        let registered = heartbeat.await.unwrap().is_some();
        assert!(registered, "the runner of {app} is registered");
    }
}

#[tokio::test]
async fn two_hundred_apps_with_an_idle_runner_each_cost_a_router_few_commands() {
    let redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let testbed = testbed.start().await.unwrap();
    let store = testbed.store().clone();
    for number in 0..APPS {
        let runner = idle_runner(app(number));
        store
            .membership()
            .register(&runner, &json!({}), LEASE)
            .await
            .unwrap();
    }
    let before = commands(&redis).await;
    heartbeats(&store).await;
    let of_runners = (commands(&redis).await - before) / HEARTBEAT.as_secs();

    let system = System::of(testbed).await;
    // Runners without heartbeats would be reaped; these need to last for the count only.
    for number in 0..APPS {
        let what = format!("app {number} has a dispatcher");
        eventually(&what, TIMEOUT, async || {
            heartbeats(&store).await;
            (consumers(&system.testbed, &app(number)).await > 0).then_some(())
        })
        .await
        .unwrap();
    }
    let of_the_router = eventually("the dispatchers have settled", IDLE_TIMEOUT, async || {
        heartbeats(&store).await;
        let per_second = commands_per_second(&redis).await;
        println!("{APPS} apps with an idle runner: {per_second} Redis commands/s by the router");
        (per_second < 400).then_some(per_second)
    })
    .await
    .unwrap();
    println!(
        "{of_the_router} commands/s by the router, {of_runners} by the heartbeats of its runners"
    );
    assert_eq!(store.runners().counts(&app(0)).await.unwrap().live, 1);

    // A runner without heartbeats is reaped when its lease lapses, and a new job is placed.
    eventually("the silent runners are removed", 2 * LEASE, async || {
        let counts = store.runners().counts(&app(APPS - 1)).await.unwrap();
        (counts.live == 0).then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}

#[tokio::test]
async fn an_idle_app_is_dispatched_on_submission_and_idle_afterwards() {
    let toml = format!("[apps.'{TIMED}']\nprior_run = 1\n");
    let testbed = Testbed::builder().config(toml).start().await.unwrap();
    let mut system = System::of(testbed).await;
    system.replace_router(&["--reconcile-after", "1s"]).await;
    let timed = AppId::parse(TIMED).unwrap();
    eventually("its queues are declared", TIMEOUT, async || {
        has_queues(&system.testbed, &timed).await.then_some(())
    })
    .await
    .unwrap();
    assert_eq!(consumers(&system.testbed, &timed).await, 0);

    // Before any runner: the dispatcher takes the job, and the first runner gets it.
    let early = system.submit("m", 1).await;
    eventually("a dispatcher has the job", TIMEOUT, async || {
        (system.job(early).await.hold.is_some()).then_some(())
    })
    .await
    .unwrap();
    let mut worker = system.worker(WorkerOptions::timed("a", TIMED)).await;
    system.succeeded(early).await;

    worker.stop(TIMEOUT).await.unwrap();
    eventually("its dispatcher ended", IDLE_TIMEOUT, async || {
        (consumers(&system.testbed, &timed).await == 0).then_some(())
    })
    .await
    .unwrap();

    // Once more.
    let _worker = system.worker(WorkerOptions::timed("b", TIMED)).await;
    let answer = system
        .post(TIMED, &[], &json!({"run_ms": 1}).to_string())
        .await;
    let late = answer.job_id();
    system.succeeded(late).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_of_an_idle_app_runs_although_redis_lost_its_record() {
    let toml = format!("[apps.'{TIMED}']\n");
    let testbed = Testbed::builder().config(toml).start().await.unwrap();
    let timed = AppId::parse(TIMED).unwrap();
    let (topology, publisher) = (testbed.topology(), testbed.publisher());
    let channel = publisher.channel().await.unwrap();
    topology.declare_base(&channel).await.unwrap();
    topology.declare_app(&channel, &timed).await.unwrap();
    let job = JobSpec::new(timed.clone(), json!({"run_ms": 1}));
    let id = job.id;
    let message = Message {
        message_id: Some(id.to_string()),
        ..Message::new(JobMessage::new(job).encode().unwrap())
    };
    let key = topology.lane_key(&timed, Priority::Normal);
    let exchange = topology.dispatch_exchange();
    publisher.publish(&exchange, &key, &message).await.unwrap();
    let system = System::of(testbed).await;
    system.reached_once_recorded(id, JobState::Queued).await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(id).await;
    system.cleanup().await;
}

/// Maximum of channels of two sessions.
const CHANNELS_OF_TWO: usize = 16;

/// Returns the open channels of the connection that dispatchers share.
async fn channels(rabbit: &PrivateRabbit) -> usize {
    let list = ["list_connections", "-q", "channels", "client_properties"];
    let list = rabbit.ctl(&list).await.unwrap();
    let mut shared = list
        .lines()
        .filter(|line| line.contains("warmq-router dispatch"));
    let channels = shared.next().unwrap().split_whitespace().next();
    assert_eq!(shared.next(), None, "one connection is enough");
    channels.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_session_that_ends_leaves_no_channel_open_on_the_shared_connection() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let testbed = Testbed::builder().amqp_url(rabbit.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    let others = WorkerOptions::timed("other", "other/app");
    let (_worker, _other) = (system.timed_worker("a").await, system.worker(others).await);
    system.succeeded(system.submit("m", 1).await).await;
    for policy in ["fal", "warm", "fal", "warm", "fal", "warm", "fal", "warm"] {
        let toml = format!("[apps.'{TIMED}']\npolicy = '{policy}'\n");
        std::fs::write(system.testbed.folder().join("warmq.toml"), toml).unwrap();
        let reloaded = system
            .http(Method::POST, "/v1/config/reload", &[], "")
            .await;
        assert_eq!(reloaded.status, 200, "{:?}", reloaded.body);
        // Published by the new session; the other app's job by the old one.
        system.succeeded(system.submit("m", 1).await).await;
        let job = system
            .submit_to("other/app", "m", json!({"run_ms": 1}))
            .await;
        system.succeeded(job).await;
    }
    let open = channels(&rabbit).await;
    assert!(open <= CHANNELS_OF_TWO, "{open} channels are open");
    system.cleanup().await;
}

#[tokio::test]
async fn an_unused_app_is_removed_and_returns_with_its_next_worker() {
    let mut system = System::with_config("[apps.'declared/app']\n").await;
    let declared = AppId::parse("declared/app").unwrap();
    let (unused, in_use) = (app(0), AppId::parse(TIMED).unwrap());
    for app in [&declared, &unused] {
        system
            .testbed
            .store()
            .apps_in_use()
            .remember_app(app)
            .await
            .unwrap();
    }
    let worker = system.timed_worker("a").await;
    system.replace_router(&["--forget-apps-after", "2s"]).await;
    let known = async || system.testbed.store().apps_in_use().known().await.unwrap();
    eventually("it is forgotten", TIMEOUT, async || {
        (!known().await.contains(&unused)).then_some(())
    })
    .await
    .unwrap();
    let apps = known().await;
    assert!(
        apps.contains(&declared) && apps.contains(&in_use),
        "{apps:?}"
    );
    assert_eq!(system.post(unused.as_str(), &[], "{}").await.status, 404);
    eventually("its queues are deleted", TIMEOUT, async || {
        (!has_queues(&system.testbed, &unused).await).then_some(())
    })
    .await
    .unwrap();
    let _worker = system
        .worker(WorkerOptions::timed("b", unused.as_str()))
        .await;
    let job = system
        .submit_to(unused.as_str(), "m", json!({"run_ms": 1}))
        .await;
    system.succeeded(job).await;
    drop(worker);
    system.cleanup().await;
}
