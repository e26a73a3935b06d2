//! A record without a message (lost by the broker, or never published) is published again; a queue
//! without a runner is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use serde_json::json;
use warmq_broker::Message;
use warmq_store::{QueueDepths, QueuedCursor, RequeueCause, Start, StartSource, Unavailable};
use warmq_testkit::{Testbed, WorkerOptions, decision, eventually};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::fault::{FaultKind, RunnerFault};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::{Decision, JobSpec, Priority, Target};
use warmq_types::message::{FailureHistory, JobMessage, Versioned};
use warmq_types::state::JobState;

/// Messages count as lost after 1 s.
const QUICK_RECONCILE: &str = "reconcile_after = '1s'\n[apps.'bench/timed']";

/// A runner's lease (15 s), and time to detect it.
const CRASH_TIMEOUT: Duration = Duration::from_secs(60);

async fn broker(system: &System) -> (Connection, Channel) {
    let connection = warmq_broker::connect(system.testbed.amqp_url(), "warmq-tests")
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test]
async fn a_record_without_a_message_is_published() {
    let system = System::with_config(QUICK_RECONCILE).await;
    let _worker = system.timed_worker("a").await;
    // As if a router died between the two.
    let job = JobSpec::new(AppId::parse(TIMED).unwrap(), json!({"run_ms": 1}));
    system.testbed.store().jobs().create(&job).await.unwrap();
    assert_eq!(system.succeeded(job.id).await.attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_that_is_published_again_lists_where_attempts_failed() {
    let system = System::with_config(QUICK_RECONCILE).await;
    let _bad = system.timed_worker("bad").await;
    system.succeeded(system.submit("m", 1).await).await;
    let _good = system.timed_worker("good").await;
    let (store, app) = (system.testbed.store(), AppId::parse(TIMED).unwrap());
    let job = JobSpec {
        hint: Some(Hint::parse("m").unwrap()),
        ..JobSpec::new(app.clone(), json!({"run_ms": 1}))
    };
    store.jobs().create(&job).await.unwrap();
    // As if its runner died between record and message.
    let bad = RunnerId::parse("bad").unwrap();
    let late = StartSource::StartedDuringOutage { ago_ms: 0 };
    let started = store
        .attempts()
        .start(&app, job.id, &bad, Epoch(0), 60_000, late);
    let Start::Started(lease) = started.await.unwrap() else {
        unreachable!("no other runner has it");
    };
    let fault = RunnerFault {
        runner: bad.clone(),
        kind: FaultKind::Engine,
        message: "the engine crashed".to_owned(),
    };
    let given_back = RequeueCause::Counted {
        reason: "its runner failed",
        fault: Some(&fault),
    };
    let requeued = store
        .attempts()
        .requeue(&app, job.id, lease.fence, given_back);
    assert!(requeued.await.unwrap());
    // Not on the runner that has its model.
    let record = system.succeeded(job.id).await;
    assert_eq!(record.runner.unwrap().as_str(), "good");
    assert_eq!(record.attempt, 2);
    let failures = FailureHistory {
        avoid: vec![bad],
        faults: vec![fault],
    };
    assert_eq!(
        store
            .attempts()
            .failure_history(&app, job.id)
            .await
            .unwrap(),
        failures
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_unroutable_job_is_kept_for_the_first_worker_of_its_app() {
    let system = System::start().await;
    let app = AppId::parse("ghost/app").unwrap();
    let job = JobSpec::new(app, json!({"run_ms": 1}));
    let message = Message::new(JobMessage::new(job.clone()).encode().unwrap());
    let (topology, publisher) = (system.testbed.topology(), system.testbed.publisher());
    let exchange = topology.dispatch_exchange();
    let sent = publisher.publish(&exchange, "ghost/app", &message);
    sent.await.unwrap();
    let worker = WorkerOptions::timed("first", "ghost/app");
    let _worker = system.worker(worker).await;
    system
        .until("it is recorded and runs", TIMEOUT, async || {
            let record = system.testbed.store().jobs().job(job.id).await.unwrap()?;
            (record.state == JobState::Succeeded).then_some(())
        })
        .await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_lost_message_is_found_behind_a_permanent_backlog() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, app) = (testbed.store(), AppId::parse(TIMED).unwrap());
    let job = JobSpec::new(app.clone(), json!({}));
    store.jobs().create(&job).await.unwrap();
    let quiet = Duration::from_millis(200);
    let created_ms = store
        .jobs()
        .job(job.id)
        .await
        .unwrap()
        .unwrap()
        .spec
        .created_ms;
    let missed_once = async |passed_ms: u64| {
        let depths = QueueDepths {
            normal_passed_ms: passed_ms,
            low_passed_ms: 0,
            shared_empty: true,
            overflows: Vec::new(),
        };
        store
            .maintenance()
            .reconcile(&app, job.id, quiet, &depths)
            .await
            .unwrap()
    };
    eventually("the job counts as lost", TIMEOUT, async || {
        (store.now_ms().await.unwrap() > created_ms + 400).then_some(())
    })
    .await
    .unwrap();
    // The job may still be in the backlog until a job sent long after it was delivered.
    assert!(!missed_once(created_ms + 199).await);
    assert!(missed_once(created_ms + 200).await);
    assert!(
        !missed_once(created_ms + 200).await,
        "it was published just now"
    );
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn reconcile_finds_jobs_behind_any_number_of_older_ones() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, app) = (testbed.store(), AppId::parse(TIMED).unwrap());
    let mut jobs = Vec::new();
    for _ in 0..7 {
        let job = JobSpec::new(app.clone(), json!({}));
        store.jobs().create(&job).await.unwrap();
        jobs.push(job.id);
    }
    let last_ms = store
        .jobs()
        .job(jobs[6])
        .await
        .unwrap()
        .unwrap()
        .spec
        .created_ms;
    eventually("all of them are old enough", TIMEOUT, async || {
        (store.now_ms().await.unwrap() > last_ms).then_some(())
    })
    .await
    .unwrap();
    let mut walk = QueuedCursor::default();
    for _ in 0..2 {
        let mut found = BTreeSet::new();
        while found.len() < jobs.len() {
            let part = store
                .maintenance()
                .possibly_lost(&app, Duration::ZERO, 3, &mut walk)
                .await
                .unwrap();
            assert!(!part.is_empty() && part.len() <= 3, "{part:?}");
            found.extend(part);
        }
        // From the start again.
        while walk != QueuedCursor::default() {
            store
                .maintenance()
                .possibly_lost(&app, Duration::ZERO, 3, &mut walk)
                .await
                .unwrap();
        }
    }
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_job_in_a_retry_tier_is_neither_started_nor_published_early() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, app) = (testbed.store(), AppId::parse(TIMED).unwrap());
    let job = JobSpec::new(app.clone(), json!({}));
    store.jobs().create(&job).await.unwrap();
    let runner = RunnerId::parse("lost").unwrap();
    let late = StartSource::StartedDuringOutage { ago_ms: 0 };
    let started = store
        .attempts()
        .start(&app, job.id, &runner, Epoch(1), 0, late);
    assert!(matches!(started.await.unwrap(), Start::Started(_)));
    let loss = store
        .attempts()
        .mark_lost(&app, job.id)
        .await
        .unwrap()
        .unwrap();
    let lost_ms = store.now_ms().await.unwrap();
    // The first retry comes at once, as far as retry tiers allow.
    assert_eq!(loss.pause, Some(Duration::from_secs(1)));
    let nothing_waits = QueueDepths {
        normal_passed_ms: u64::MAX,
        low_passed_ms: u64::MAX,
        shared_empty: true,
        overflows: Vec::new(),
    };
    eventually("it is due", TIMEOUT, async || {
        let missed = store
            .maintenance()
            .reconcile(&app, job.id, Duration::ZERO, &nothing_waits);
        let missed = missed.await.unwrap();
        let share = store
            .placement()
            .move_to_shared(&app, job.id, &shared_decision())
            .await
            .unwrap();
        match share {
            Some(Unavailable::Parked { .. }) => {
                assert!(!missed, "its copy is parked");
                assert_eq!(
                    store
                        .attempts()
                        .failure_history(&app, job.id)
                        .await
                        .unwrap()
                        .avoid,
                    std::slice::from_ref(&runner)
                );
                None
            }
            None => Some(()),
            other => panic!("{other:?}"),
        }
    })
    .await
    .unwrap();
    assert!(store.now_ms().await.unwrap() >= lost_ms + 900);
    testbed.cleanup().await.unwrap();
}

fn shared_decision() -> Decision {
    Decision {
        target: Target::Shared,
        idle_runners: 0,
        ..decision(&RunnerId::parse("none").unwrap())
    }
}

#[tokio::test]
async fn a_message_that_the_broker_lost_is_published_again_by_the_next_leader() {
    let mut system = System::with_config(QUICK_RECONCILE).await;
    let jobs = [system.submit("m", 1).await, system.submit("n", 1).await];
    system.router.kill9().await.unwrap();
    let (_connection, channel) = broker(&system).await;
    let backlog =
        (system.testbed.topology()).lane_queue(&AppId::parse(TIMED).unwrap(), Priority::Normal);
    eventually("both jobs are back in the backlog", TIMEOUT, async || {
        let options = QueuePurgeOptions::default();
        let purged = channel.queue_purge(backlog.as_str().into(), options).await;
        (purged.unwrap() == 2).then_some(())
    })
    .await
    .unwrap();
    system.router = system.testbed.router(&[]).await.unwrap();
    let _worker = system.timed_worker("a").await;
    for id in jobs {
        assert_eq!(system.succeeded(id).await.attempt, 1);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_running_job_whose_runner_and_message_are_lost_runs_elsewhere_and_the_queue_is_deleted() {
    let system = System::with_config(QUICK_RECONCILE).await;
    let mut victim = system.timed_worker("victim").await;
    let queue = {
        let runner = &victim.runners()[0];
        system
            .testbed
            .topology()
            .runner_queue(&runner.id, runner.epoch)
    };
    let id = system.submit("m", 3000).await;
    system.reached(id, JobState::Running).await;
    let (_connection, channel) = broker(&system).await;
    // Deleting a queue deletes its messages; the queue stands for one left by a dead runner.
    let gone = QueueDeleteOptions::default();
    channel
        .queue_delete(queue.as_str().into(), gone)
        .await
        .unwrap();
    victim.kill9().await.unwrap();
    let left = QueueDeclareOptions::default();
    let none = FieldTable::default();
    channel
        .queue_declare(queue.as_str().into(), left, none)
        .await
        .unwrap();
    let _survivor = system.timed_worker("survivor").await;
    let job = system.ended_within(id, CRASH_TIMEOUT).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    assert_eq!(job.runner.unwrap().as_str(), "survivor");
    assert_eq!(job.attempt, 2);
    eventually("the dead runner's queue is deleted", TIMEOUT, async || {
        let (_connection, channel) = broker(&system).await;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
        found.await.is_err().then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}
