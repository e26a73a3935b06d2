//! RabbitMQ dies, hangs, or runs out of memory: a private one, since others need theirs.

use std::time::Duration;

use lapin::Consumer;
use reqwest::StatusCode;
use warmq_testkit::{Cluster, PrivateRabbit, eventually};
use warmq_tests::amqp::{json, next, with_id};
use warmq_tests::stage::{SOON, TIMED};
use warmq_tests::{AmqpUser, Answer, Stage};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

/// Everybody has to connect again, with growing delays between (up to 7.5 s).
const AFTER_AN_OUTAGE: Duration = Duration::from_secs(60);

/// Within which a worker stops that has no job to finish; its time to drain is 30 s.
const PROMPT_STOP: Duration = Duration::from_secs(10);

async fn stage_of(rabbit: &PrivateRabbit) -> Stage {
    let cluster = Cluster::builder().amqp_url(rabbit.url().expose());
    Stage::of(cluster.start().await.unwrap()).await
}

/// What the only runner runs.
async fn running_job(stage: &Stage) -> JobId {
    stage.runners(TIMED).await[0].job.unwrap()
}

async fn submit(stage: &Stage) -> Answer {
    stage.post(TIMED, &[], r#"{"run_ms": 1}"#).await
}

fn assert_told_to_come_back(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
}

/// Waits until a job is accepted, and returns it.
async fn accepted(stage: &Stage) -> JobId {
    eventually("jobs are accepted again", AFTER_AN_OUTAGE, async || {
        let answer = submit(stage).await;
        if answer.status != StatusCode::OK {
            assert_told_to_come_back(&answer);
            return None;
        }
        Some(answer.body["request_id"].as_str().unwrap().parse().unwrap())
    })
    .await
    .unwrap()
}

async fn all_succeed(stage: &Stage, jobs: impl IntoIterator<Item = JobId>) {
    for id in jobs {
        let job = stage.ended_within(id, AFTER_AN_OUTAGE).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
        assert_eq!(job.attempt, 1);
    }
}

/// A submitter by AMQP that waits for the outcome of a job which no router has seen yet.
async fn waiting_submitter(stage: &Stage, id: JobId) -> (AmqpUser, Consumer) {
    let user = AmqpUser::connect(&stage.cluster).await;
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
    let stage = stage_of(&rabbit).await;
    let _worker = stage.timed("a").await;
    let mut jobs = stage.held_jobs().await;
    let running = running_job(&stage).await;
    // Taken by nobody yet, and by no router either.
    stage.router.freeze().unwrap();
    let by_amqp = JobId::generate();
    drop(waiting_submitter(&stage, by_amqp).await);
    rabbit.kill9().await.unwrap();
    stage.router.resume().unwrap();
    let refused = submit(&stage).await;
    assert_told_to_come_back(&refused);
    // What runs needs no broker.
    assert_eq!(stage.succeeded(running).await.attempt, 1);
    rabbit.restart().await.unwrap();
    jobs.push(accepted(&stage).await);
    all_succeed(&stage, jobs).await;
    stage.stands(by_amqp, JobState::Succeeded).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn a_broker_that_hangs_for_a_while_is_waited_for() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let stage = stage_of(&rabbit).await;
    let _worker = stage.timed("a").await;
    let mut jobs = stage.held_jobs().await;
    rabbit.freeze().unwrap();
    // Answered all the same, though a confirm is waited for as long as it is likely to come.
    assert_told_to_come_back(&submit(&stage).await);
    rabbit.resume().unwrap();
    jobs.push(accepted(&stage).await);
    all_succeed(&stage, jobs).await;
    let by_amqp = JobId::generate();
    let (_user, mut replies) = waiting_submitter(&stage, by_amqp).await;
    assert_eq!(json(&next(&mut replies).await)["status"], "OK");
    stage.clean_up().await;
}

#[tokio::test]
async fn under_a_memory_alarm_submitters_come_back_later_and_running_jobs_finish() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let stage = stage_of(&rabbit).await;
    let _worker = stage.timed("a").await;
    let mut jobs = stage.held_jobs().await;
    let running = running_job(&stage).await;
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "absolute", "1"])
        .await
        .unwrap();
    let refused = eventually("submitters are refused", SOON, async || {
        Some(submit(&stage).await).filter(|answer| answer.status != StatusCode::OK)
    });
    assert_told_to_come_back(&refused.await.unwrap());
    let ready = stage.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stage.succeeded(running).await.attempt, 1);

    rabbit
        .ctl(&["set_vm_memory_high_watermark", "0.4"])
        .await
        .unwrap();
    jobs.push(accepted(&stage).await);
    all_succeed(&stage, jobs).await;
    eventually("the router is ready", SOON, async || {
        (stage.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    stage.clean_up().await;
}

#[tokio::test]
async fn a_worker_is_stopped_within_seconds_under_a_memory_alarm() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let stage = stage_of(&rabbit).await;
    let (mut idle, mut busy) = (stage.timed("a").await, stage.timed("b").await);
    let job = stage.submit("m", 2_000).await;
    stage.reached(job, JobState::Running).await;
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "absolute", "1"])
        .await
        .unwrap();
    // The end of its job is stored and cannot be announced.
    let stored = eventually("the job has ended", SOON, async || {
        Some(stage.job(job).await).filter(|job| job.state == JobState::Succeeded)
    });
    stored.await.unwrap();
    for worker in [&mut idle, &mut busy] {
        worker.terminate().unwrap();
        worker.wait(PROMPT_STOP).await.unwrap();
    }
    rabbit
        .ctl(&["set_vm_memory_high_watermark", "0.4"])
        .await
        .unwrap();
    stage.ended_within(job, AFTER_AN_OUTAGE).await;
    stage.clean_up().await;
}
