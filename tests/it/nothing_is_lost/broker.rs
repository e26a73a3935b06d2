//! RabbitMQ dies, hangs, or runs out of memory: a private one, since other tests use the shared
//! one.

use std::time::Duration;

use lapin::Consumer;
use reqwest::StatusCode;
use serde_json::Value;
use warmq_broker::Topology;
use warmq_store::Registration;
use warmq_testkit::{PrivateRabbit, Testbed, eventually, registration};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json, next, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

/// Time for all processes to reconnect, with growing delays (up to 7.5 s).
const AFTER_AN_OUTAGE: Duration = Duration::from_secs(60);

/// Within which a worker without a job stops; its drain timeout is 30 s.
const PROMPT_STOP: Duration = Duration::from_secs(10);

async fn stage_of(rabbit: &PrivateRabbit) -> System {
    let testbed = Testbed::builder().amqp_url(rabbit.url().expose());
    System::of(testbed.start().await.unwrap()).await
}

/// Returns the job that the only runner runs.
async fn running_job(system: &System) -> JobId {
    system.runners(TIMED).await[0].job.unwrap()
}

async fn submit(system: &System) -> HttpResponse {
    system.post(TIMED, &[], r#"{"run_ms": 1}"#).await
}

fn assert_retry_after(answer: &HttpResponse) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
}

/// Waits until a job is accepted, and returns it.
async fn accepted(system: &System) -> JobId {
    eventually("jobs are accepted again", AFTER_AN_OUTAGE, async || {
        let answer = submit(system).await;
        if answer.status != StatusCode::OK {
            assert_retry_after(&answer);
            return None;
        }
        Some(answer.job_id())
    })
    .await
    .unwrap()
}

async fn readiness_becomes(system: &System, status: StatusCode) {
    let reached = eventually("the router's readiness changes", TIMEOUT, async || {
        (system.get("/readyz").await.status == status).then_some(())
    });
    reached.await.unwrap();
}

async fn all_succeed(system: &System, jobs: impl IntoIterator<Item = JobId>) {
    for id in jobs {
        let job = system.ended_within(id, AFTER_AN_OUTAGE).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
        assert_eq!(job.attempt, 1);
    }
}

/// An AMQP submission that waits for its reply, before any router received it.
async fn waiting_submitter(system: &System, id: JobId) -> (AmqpClient, Consumer) {
    let user = AmqpClient::connect(&system.testbed).await;
    let queue = format!("reply.{id}");
    user.own_queue(&queue).await;
    let replies = user.consume(&queue).await;
    user.submit(TIMED, r#"{"run_ms": 1}"#, with_id(id, &queue))
        .await;
    (user, replies)
}

#[tokio::test]
async fn a_broker_that_is_killed_and_restarted_loses_no_job_that_was_accepted() {
    let mut rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let system = stage_of(&rabbit).await;
    let _worker = system.timed_worker("a").await;
    let mut jobs = system.hold_jobs().await;
    let running = running_job(&system).await;
    // Neither delivered nor seen by a router.
    system.router.freeze().unwrap();
    let by_amqp = JobId::generate();
    drop(waiting_submitter(&system, by_amqp).await);
    rabbit.kill9().await.unwrap();
    system.router.resume().unwrap();
    let refused = submit(&system).await;
    assert_retry_after(&refused);
    // Running jobs need no broker.
    assert_eq!(system.succeeded(running).await.attempt, 1);
    rabbit.restart().await.unwrap();
    jobs.push(accepted(&system).await);
    all_succeed(&system, jobs).await;
    system
        .reached_once_recorded(by_amqp, JobState::Succeeded)
        .await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_in_its_runners_queue_runs_although_the_broker_restarts() {
    let mut rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let testbed = Testbed::builder().amqp_url(rabbit.url().expose());
    let testbed = testbed.config(format!("reconcile_after = '3s'\n[apps.'{TIMED}']"));
    let system = System::of(testbed.start().await.unwrap()).await;
    // A runner that takes nothing from its queue.
    let (topology, store) = (system.testbed.topology(), system.testbed.store());
    let runner = registration(&TIMED.parse().unwrap(), &"silent".parse().unwrap());
    let channel = system.testbed.publisher().channel().await.unwrap();
    let Registration {
        app,
        runner: name,
        epoch,
        ..
    } = &runner;
    let declared = topology.declare_runner(&channel, app, name, *epoch, AFTER_AN_OUTAGE);
    declared.await.unwrap();
    let lease = Duration::from_secs(15);
    let registered = (store.membership()).register(&runner, &Value::Bool(true), lease);
    registered.await.unwrap();
    let job = accepted(&system).await;
    let queue = topology.runner_queue(name, *epoch);
    system.until_depth(&queue, 1).await;
    rabbit.kill9().await.unwrap();
    rabbit.restart().await.unwrap();
    let channel = system.testbed.publisher().channel().await.unwrap();
    assert_eq!(
        Topology::depth(&channel, &queue).await.unwrap(),
        0,
        "it was stored"
    );
    let _worker = system.timed_worker("a").await;
    all_succeed(&system, [job]).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_hung_broker_is_waited_for() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let system = stage_of(&rabbit).await;
    let _worker = system.timed_worker("a").await;
    let mut jobs = system.hold_jobs().await;
    rabbit.freeze().unwrap();
    // Answered all the same, although a confirm is awaited as long as it is likely.
    assert_retry_after(&submit(&system).await);
    rabbit.resume().unwrap();
    jobs.push(accepted(&system).await);
    all_succeed(&system, jobs).await;
    let by_amqp = JobId::generate();
    let (_user, mut replies) = waiting_submitter(&system, by_amqp).await;
    assert_eq!(json(&next(&mut replies).await)["status"], "OK");
    system.cleanup().await;
}

#[tokio::test]
async fn under_a_memory_alarm_submissions_get_503_and_running_jobs_finish() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let system = stage_of(&rabbit).await;
    let _worker = system.timed_worker("a").await;
    let mut jobs = system.hold_jobs().await;
    let running = running_job(&system).await;
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "absolute", "1"])
        .await
        .unwrap();
    let refused = eventually("submitters are refused", TIMEOUT, async || {
        Some(submit(&system).await).filter(|answer| answer.status != StatusCode::OK)
    });
    assert_retry_after(&refused.await.unwrap());
    // A report is cached for a second, so one from before the alarm may still be returned.
    readiness_becomes(&system, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(system.succeeded(running).await.attempt, 1);

    rabbit
        .ctl(&["set_vm_memory_high_watermark", "0.4"])
        .await
        .unwrap();
    jobs.push(accepted(&system).await);
    all_succeed(&system, jobs).await;
    readiness_becomes(&system, StatusCode::OK).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_worker_is_stopped_within_seconds_under_a_memory_alarm() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let system = stage_of(&rabbit).await;
    let (mut idle, mut busy) = (
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    );
    let user = AmqpClient::connect(&system.testbed).await;
    let _replies = user.consume(DIRECT_REPLY_TO).await;
    let job = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 2000}"#, with_id(job, DIRECT_REPLY_TO))
        .await;
    system.reached_once_recorded(job, JobState::Running).await;
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "absolute", "1"])
        .await
        .unwrap();
    // The result is stored and cannot be announced.
    let stored = eventually("the job has ended", TIMEOUT, async || {
        Some(system.job(job).await).filter(|job| job.state == JobState::Succeeded)
    });
    stored.await.unwrap();
    for worker in [&mut idle, &mut busy] {
        worker.stop(PROMPT_STOP).await.unwrap();
    }
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "0.4"])
        .await
        .unwrap();
    system.ended_within(job, AFTER_AN_OUTAGE).await;
    system.cleanup().await;
}
