//! How each kind of delivery is handled.

use std::time::Duration;

use lapin::types::AMQPValue;
use serde_json::json;
use warmq_broker::{Message, Topology, consumer};
use warmq_store::{RequeueCause, Start, StartSource};
use warmq_types::ids::{Epoch, Fence, RunnerId};
use warmq_types::job::{Phase, Priority};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;
use warmq_worker::consumer::{Consumers, Source};

use crate::harness::{TIMEOUT, World, takes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_job_runs_and_its_end_is_stored_and_announced() {
    let world = World::new().await;
    let mut events = world.events().await;
    let worker = world.worker("a").await;
    let job = world.share("model", takes(10)).await;
    assert_eq!(events.event().await, (job.id, JobState::Succeeded));
    let record = world.record(&job).await.unwrap();
    assert_eq!(record.state, JobState::Succeeded);
    assert_eq!(record.output, Some(json!({"runner": "a", "warm": false})));
    assert_eq!((record.attempt, record.progress), (1, None));
    assert!(record.timings.unwrap().load_ms >= 10);
    let runner = world.runner("a").await.unwrap();
    assert_eq!(runner.hints[0].as_str(), "model");
    assert!(runner.idle && runner.job.is_none() && runner.memory_bytes > 0);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claimed_job_runs_from_the_own_queue_and_the_next_one_is_warm() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    for warm in [false, true] {
        let job = world.send_to("a", "model", takes(10)).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        assert_eq!(record.timings.unwrap().warm, warm);
        assert_eq!(record.runner.unwrap().as_str(), "a");
    }
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_is_not_tried_again_and_its_model_stays() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world
        .share("m", json!({"run_ms": 1, "load_ms": 1, "fail": "no luck"}))
        .await;
    let record = world.reached(&job, JobState::Failed).await;
    let error = record.error.unwrap();
    assert_eq!((error.status, error.message.as_str()), (422, "no luck"));
    let wrong = world.share("", json!({"run_ms": "soon"})).await;
    let error = world.reached(&wrong, JobState::Failed).await.error.unwrap();
    assert_eq!(error.detail[0].loc, ["body", "run_ms"]);
    assert_eq!(world.runner("a").await.unwrap().hints[0].as_str(), "m");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_shown_while_a_job_runs() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world.share("", takes(1_500)).await;
    let progress = world
        .until("progress is shown", async || {
            world.record(&job).await?.progress
        })
        .await;
    assert_eq!(progress.steps, 10);
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_of_an_ended_job_announces_its_end_again() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world.share("", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    let mut events = world.events().await;
    world.publish_shared(&job).await;
    // The first run's event may arrive late; both are equal.
    assert_eq!(events.event().await, (job.id, JobState::Succeeded));
    assert_eq!(world.record(&job).await.unwrap().attempt, 1);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_redis_lost_is_recorded_again_and_runs() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world.spec("", takes(1));
    world.publish_shared(&job).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_another_runner_holds_is_parked_and_comes_back_to_the_backlog() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world.spec("", takes(1));
    let store = world.testbed.store();
    store.jobs().create(&job).await.unwrap();
    let holder = RunnerId::parse("elsewhere").unwrap();
    let ground = StartSource::StartedDuringOutage { ago_ms: 0 };
    let started = store
        .attempts()
        .start(&world.app, job.id, &holder, Epoch(1), 900, ground)
        .await;
    assert!(matches!(started, Ok(Start::Started(_))));
    world.publish_shared(&job).await;
    let backlog = world
        .testbed
        .topology()
        .lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;
    assert_eq!(backlog.job().await, job);
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_a_job_becomes_a_dead_letter_with_its_reason() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let topology = world.testbed.topology();
    let mut dead = world.listen(&topology.dead_queue(&world.app)).await;
    let publisher = world.testbed.publisher();
    for (body, reason) in [
        ("{}", "missing field"),
        (r#"{"v":9,"job":{}}"#, "missing field"),
    ] {
        let message = Message::new(body.as_bytes().to_vec());
        publisher
            .publish("", &topology.shared_queue(&world.app), &message)
            .await
            .unwrap();
        let letter = dead.message().await;
        assert_eq!(letter.data, body.as_bytes());
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let Some(AMQPValue::LongString(header)) = headers.inner().get("x-warmq-reason") else {
            panic!("no reason: {headers:?}");
        };
        let recorded = header.to_string();
        assert!(recorded.contains(reason), "{recorded}");
    }
    let job = world.share("", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_sent_to_a_busy_runner_returns_to_the_dispatcher() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let long = world.share("", takes(2_000)).await;
    world.reached(&long, JobState::Running).await;
    let topology = world.testbed.topology();
    let mut backlog = world
        .listen(&topology.lane_queue(&world.app, Priority::Normal))
        .await;
    let late = world.spec("", takes(1));
    let runner = world.runner("a").await.unwrap();
    world
        .publish("", &topology.runner_queue(&runner.id, runner.epoch), &late)
        .await;
    assert_eq!(backlog.job().await, late);
    assert_eq!(world.record(&long).await.unwrap().state, JobState::Running);
    world.reached(&long, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_lease_is_lost_is_stopped_and_its_result_dropped() {
    let world = World::new().await;
    let worker = world.worker("a").await;
    let job = world
        .share("m", json!({"run_ms": 20_000, "load_ms": 1}))
        .await;
    let record = world.reached(&job, JobState::Running).await;
    // An aborted load leaves no model. The first step is reported after a tenth of the run.
    world
        .until("the model is loaded", async || {
            let progress = world.record(&job).await?.progress?;
            (progress.phase == Phase::Running).then_some(())
        })
        .await;
    let store = world.testbed.store();
    assert!(
        store
            .attempts()
            .requeue(&world.app, job.id, record.fence, RequeueCause::Uncounted)
            .await
            .unwrap()
    );
    world
        .until("the runner is idle again", async || {
            world.runner("a").await?.idle.then_some(())
        })
        .await;
    let record = world.record(&job).await.unwrap();
    assert_eq!((record.state, record.fence), (JobState::Queued, Fence(1)));
    // The loaded model is still reported.
    assert_eq!(world.runner("a").await.unwrap().hints[0].as_str(), "m");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_redis_forgot_joins_again() {
    let world = World::new().await;
    let intervals = warmq_worker::context::Intervals {
        heartbeat: Duration::from_millis(200),
        ..Default::default()
    };
    let worker = world.worker_with(intervals, world.config("a")).await;
    let first = world.runner("a").await.unwrap();
    let store = world.testbed.store();
    store
        .membership()
        .leave(&world.app, &first.id, first.epoch)
        .await
        .unwrap();
    let second = world
        .until("it is back", async || world.runner("a").await)
        .await;
    assert!(second.epoch > first.epoch);
    let job = world.send_to("a", "", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_job_is_acknowledged_early_and_a_copy_is_kept() {
    let world = World::new().await;
    let intervals = warmq_worker::context::Intervals {
        unacknowledged: Duration::from_millis(100),
        ..Default::default()
    };
    let worker = world.worker_with(intervals, world.config("a")).await;
    let job = world.share("", takes(3_000)).await;
    let channel = world.testbed.publisher().channel().await.unwrap();
    let parked = world.testbed.topology().retry_exchange(RetryTier::M10);
    world
        .until("a copy is parked", async || {
            (Topology::depth(&channel, &parked).await.unwrap() == 1).then_some(())
        })
        .await;
    assert_eq!(world.record(&job).await.unwrap().state, JobState::Running);
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_delivery_is_returned_although_its_channel_stays_open() {
    let world = World::new().await;
    let (app, topology) = (&world.app, world.testbed.topology());
    let url = world.testbed.amqp_url();
    let connection = warmq_broker::connect(url, "test").await.unwrap();
    let channel = consumer::channel(&connection, 1).await.unwrap();
    let (runner, epoch) = (RunnerId::parse("a").unwrap(), Epoch(1));
    topology
        .declare_runner(&channel, app, &runner, epoch, TIMEOUT)
        .await
        .unwrap();
    let own_queue = topology.runner_queue(&runner, epoch);
    let mut consumers = Consumers::new(channel.clone(), &own_queue, topology.shared_queue(app))
        .await
        .unwrap();
    consumers.set_shared(true).await.unwrap();
    let shared = world.share("m", takes(1)).await;
    for _ in 0..2 {
        let delivery = tokio::time::timeout(TIMEOUT, consumers.next()).await;
        let delivery = delivery.unwrap().unwrap();
        let id = JobMessage::decode(delivery.body()).unwrap().job.id;
        assert_eq!((delivery.source, id), (Source::Shared, shared.id));
    }
    // The dispatcher sent the job to this runner, so it decides again.
    let lane = topology.lane_queue(app, Priority::Normal);
    let mut lane = world.listen(&lane).await;
    let own = world.spec("m", takes(1));
    world.publish("", &own_queue, &own).await;
    let delivery = tokio::time::timeout(TIMEOUT, consumers.next_own()).await;
    drop(delivery.unwrap().unwrap());
    assert_eq!(lane.job().await.id, own.id);
    consumers.end().await.unwrap();
    topology
        .delete_runner(&channel, &runner, epoch)
        .await
        .unwrap();
    world.end([]).await;
}
