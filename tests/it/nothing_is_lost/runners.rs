//! Workers die or hang, their queues vanish.

use futures::{FutureExt, StreamExt};
use lapin::options::QueueDeleteOptions;
use serde_json::json;
use warmq_testkit::{Proxy, Worker, WorkerOptions, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next, with_id};
use warmq_tests::stage::{SOON, TIMED};
use warmq_tests::{AmqpUser, Stage};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use super::AFTER_A_CRASH;

/// Deletes the queue of a worker's runner, and what is in it.
async fn delete_queue(stage: &Stage, worker: &Worker) {
    let runner = &worker.runners()[0];
    let queue = (stage.cluster.topology()).runner_queue(&runner.id, runner.epoch);
    let connection = warmq_broker::connect(stage.cluster.amqp_url(), "warmq-tests");
    let channel = connection.await.unwrap().create_channel().await.unwrap();
    let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
}

/// A worker that has model `m` and does not react any more, and one that does: the first is chosen for `m`.
async fn a_frozen_worker_and_another(stage: &Stage) -> (Worker, Worker) {
    let frozen = stage.timed("frozen").await;
    stage.succeeded(stage.submit("m", 1).await).await;
    let other = stage.timed("other").await;
    frozen.freeze().unwrap();
    (frozen, other)
}

#[tokio::test]
async fn a_job_whose_runners_queue_is_gone_is_sent_elsewhere_at_once() {
    let stage = Stage::start().await;
    let (frozen, _other) = a_frozen_worker_and_another(&stage).await;
    delete_queue(&stage, &frozen).await;
    let job = stage.succeeded(stage.submit("m", 1).await).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    let waited_ms = job.started_ms.unwrap() - job.spec.created_ms;
    assert!(
        waited_ms < 1_000,
        "it was sent elsewhere after {waited_ms} ms"
    );
    stage.clean_up().await;
}

#[tokio::test]
async fn a_job_that_vanished_with_its_runners_queue_is_published_again() {
    let stage = Stage::with_config("reconcile_after = '1s'").await;
    let (frozen, _other) = a_frozen_worker_and_another(&stage).await;
    let id = stage.submit("m", 1).await;
    let sent = stage.reached(id, JobState::Dispatched).await;
    assert_eq!(sent.runner.as_ref(), Some(frozen.runner()));
    // As when the broker confirms a message for a queue that is being deleted.
    delete_queue(&stage, &frozen).await;
    let job = stage.succeeded(id).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    stage.clean_up().await;
}

#[tokio::test]
async fn a_job_in_the_queue_of_a_dead_worker_goes_elsewhere_after_the_accept_timeout() {
    let stage = Stage::start().await;
    let (mut frozen, _other) = a_frozen_worker_and_another(&stage).await;
    let id = stage.submit("m", 1).await;
    let sent = stage.reached(id, JobState::Dispatched).await;
    assert_eq!(sent.runner.as_ref(), Some(frozen.runner()));
    frozen.kill9().await.unwrap();
    let job = stage.succeeded(id).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    // Neither the lease (15 s) nor the reconciler (60 s) was waited for.
    let waited_ms = job.started_ms.unwrap() - job.spec.created_ms;
    assert!(waited_ms < 8_000, "it went elsewhere after {waited_ms} ms");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_job_loses_nothing() {
    let stage = Stage::start().await;
    let mut victim = stage.timed("victim").await;
    // Longer than it takes to submit the others.
    let first = stage.submit("m", 8000).await;
    stage.reached(first, JobState::Running).await;
    let _survivor = stage.timed("survivor").await;
    let mut jobs = vec![first];
    for n in 0..20 {
        jobs.push(stage.submit(if n % 2 == 0 { "m" } else { "n" }, 20).await);
    }
    victim.kill9().await.unwrap();
    for id in jobs {
        let job = stage.ended_within(id, AFTER_A_CRASH).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    }
    let job = stage.job(first).await;
    assert_eq!(job.runner.unwrap().as_str(), "survivor");
    assert_eq!(job.attempt, 2);
    // The dead runner's hints are gone with its lease.
    eventually("the dead runner was reaped", SOON, async || {
        (stage.runners(TIMED).await.len() == 1).then_some(())
    })
    .await
    .unwrap();
    stage.clean_up().await;
}

#[tokio::test]
async fn the_late_result_of_a_worker_that_hung_is_refused_and_one_result_is_seen() {
    let stage = Stage::start().await;
    let user = AmqpUser::connect(&stage.cluster).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let hanging = stage.timed("hanging").await;
    let id = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 2000}"#, with_id(id, DIRECT_REPLY_TO))
        .await;
    stage.stands(id, JobState::Running).await;
    hanging.freeze().unwrap();
    let _other = stage.timed("other").await;
    let job = stage.ended_within(id, AFTER_A_CRASH).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    assert_eq!(job.attempt, 2);
    assert_eq!(job.lost_runners, [hanging.runner().clone()]);
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["runner"], "other");

    hanging.resume().unwrap();
    eventually("its result is refused", SOON, async || {
        let log = hanging.log_tail();
        (log.contains("a job's result was dropped") || log.contains("a job was stopped"))
            .then_some(())
    })
    .await
    .unwrap();
    eventually("it joined again", SOON, async || {
        (stage.runners(TIMED).await.len() == 2).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(stage.job(id).await.output, job.output);
    stage.succeeded(stage.submit("", 1).await).await;
    assert!(replies.next().now_or_never().is_none(), "told once");
    stage.clean_up().await;
}

#[tokio::test]
async fn the_end_of_a_job_whose_worker_died_before_saying_so_is_told_by_another() {
    let stage = Stage::start().await;
    let user = AmqpUser::connect(&stage.cluster).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let proxy = Proxy::of(stage.cluster.amqp_url()).await.unwrap();
    let url = proxy.url();
    let options = WorkerOptions::timed("dying", TIMED).args(["--amqp-url", url.expose()]);
    let mut dying = stage.worker(options).await;
    let id = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 1000}"#, with_id(id, DIRECT_REPLY_TO))
        .await;
    stage.stands(id, JobState::Running).await;
    // The result is stored in Redis; neither its announcement nor the acknowledgement reaches the broker.
    proxy.mute("warmq-worker");
    let ended = stage.succeeded(id).await;
    dying.kill9().await.unwrap();
    assert!(replies.next().now_or_never().is_none(), "told too early");
    let _other = stage.timed("other").await;
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["runner"], json!("dying"));
    let job = stage.job(id).await;
    assert_eq!((job.attempt, job.finished_ms), (1, ended.finished_ms));
    stage.clean_up().await;
}

#[tokio::test]
async fn jobs_wait_for_their_first_worker() {
    let stage = Stage::with_config("[apps.'bench/timed']").await;
    let jobs: [JobId; 3] = [
        stage.submit("a", 1).await,
        stage.submit("b", 1).await,
        stage.submit("c", 1).await,
    ];
    let _worker = stage.timed("late").await;
    for id in jobs {
        stage.succeeded(id).await;
    }
    stage.clean_up().await;
}
