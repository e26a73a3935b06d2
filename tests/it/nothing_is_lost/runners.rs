//! Workers die or hang, and their queues are deleted.

use futures::{FutureExt, StreamExt};
use lapin::options::QueueDeleteOptions;
use serde_json::json;
use warmq_testkit::{Proxy, Worker, WorkerOptions, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use super::AFTER_A_CRASH;

/// Deletes the queue of a worker's runner, and its messages.
async fn delete_queue(system: &System, worker: &Worker) {
    let runner = &worker.runners()[0];
    let queue = (system.testbed.topology()).runner_queue(&runner.id, runner.epoch);
    let connection = warmq_broker::connect(system.testbed.amqp_url(), "warmq-tests");
    let channel = connection.await.unwrap().create_channel().await.unwrap();
    let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
}

/// Starts a hung worker that has model `m`, and a healthy one: the first is chosen for `m`.
async fn a_frozen_worker_and_another(system: &System) -> (Worker, Worker) {
    let frozen = system.timed_worker("frozen").await;
    system.succeeded(system.submit("m", 1).await).await;
    let other = system.timed_worker("other").await;
    frozen.freeze().unwrap();
    (frozen, other)
}

#[tokio::test]
async fn a_job_is_rerouted_at_once_when_its_runners_queue_is_gone() {
    let system = System::start().await;
    let (frozen, _other) = a_frozen_worker_and_another(&system).await;
    delete_queue(&system, &frozen).await;
    let job = system.succeeded(system.submit("m", 1).await).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    let waited_ms = job.started_ms.unwrap() - job.spec.created_ms;
    assert!(
        waited_ms < 1_000,
        "it was sent elsewhere after {waited_ms} ms"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_lost_with_its_runners_queue_is_published_again() {
    let system = System::with_config("reconcile_after = '1s'").await;
    let (frozen, _other) = a_frozen_worker_and_another(&system).await;
    let id = system.submit("m", 1).await;
    let sent = system.reached(id, JobState::Dispatched).await;
    assert_eq!(sent.runner.as_ref(), Some(frozen.runner()));
    // As when the broker confirms a message for a queue that is being deleted.
    delete_queue(&system, &frozen).await;
    let job = system.succeeded(id).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_in_the_queue_of_a_dead_worker_is_rerouted_after_the_accept_timeout() {
    let system = System::start().await;
    let (mut frozen, _other) = a_frozen_worker_and_another(&system).await;
    let id = system.submit("m", 1).await;
    let sent = system.reached(id, JobState::Dispatched).await;
    assert_eq!(sent.runner.as_ref(), Some(frozen.runner()));
    frozen.kill9().await.unwrap();
    let job = system.succeeded(id).await;
    assert_eq!((job.attempt, job.runner.unwrap().as_str()), (1, "other"));
    // Faster than the lease (15 s) and the reconciler (60 s).
    let waited_ms = job.started_ms.unwrap() - job.spec.created_ms;
    assert!(waited_ms < 8_000, "it went elsewhere after {waited_ms} ms");
    system.cleanup().await;
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_job_loses_nothing() {
    let system = System::start().await;
    let mut victim = system.timed_worker("victim").await;
    // Longer than submitting the others takes.
    let first = system.submit("m", 8000).await;
    system.reached(first, JobState::Running).await;
    let _survivor = system.timed_worker("survivor").await;
    let mut jobs = vec![first];
    for n in 0..20 {
        jobs.push(system.submit(if n % 2 == 0 { "m" } else { "n" }, 20).await);
    }
    victim.kill9().await.unwrap();
    for id in jobs {
        let job = system.ended_within(id, AFTER_A_CRASH).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    }
    let job = system.job(first).await;
    assert_eq!(job.runner.unwrap().as_str(), "survivor");
    assert_eq!(job.attempt, 2);
    // The dead runner's hints are gone with its lease.
    eventually("the dead runner was reaped", TIMEOUT, async || {
        (system.runners(TIMED).await.len() == 1).then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}

#[tokio::test]
async fn the_late_result_of_a_hung_worker_is_refused() {
    let system = System::start().await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let hanging = system.timed_worker("hanging").await;
    let id = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 2000}"#, with_id(id, DIRECT_REPLY_TO))
        .await;
    system.reached_once_recorded(id, JobState::Running).await;
    hanging.freeze().unwrap();
    let _other = system.timed_worker("other").await;
    let job = system.ended_within(id, AFTER_A_CRASH).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    assert_eq!(job.attempt, 2);
    assert_eq!(job.lost_runners, [hanging.runner().clone()]);
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["runner"], "other");

    hanging.resume().unwrap();
    eventually("its result is refused", TIMEOUT, async || {
        let log = hanging.log_tail();
        (log.contains("result dropped:") || log.contains("job stopped:")).then_some(())
    })
    .await
    .unwrap();
    eventually("it joined again", TIMEOUT, async || {
        (system.runners(TIMED).await.len() == 2).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(system.job(id).await.output, job.output);
    system.succeeded(system.submit("", 1).await).await;
    assert!(replies.next().now_or_never().is_none(), "one reply");
    system.cleanup().await;
}

#[tokio::test]
async fn the_end_of_a_job_is_announced_although_its_worker_died_before() {
    let system = System::start().await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    let url = proxy.url();
    let options = WorkerOptions::timed("dying", TIMED).args(["--amqp-url", url.expose()]);
    let mut dying = system.worker(options).await;
    let id = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 1000}"#, with_id(id, DIRECT_REPLY_TO))
        .await;
    system.reached_once_recorded(id, JobState::Running).await;
    // The result is stored in Redis; neither its event nor the ack reaches the broker.
    proxy.mute("warmq-worker");
    let ended = system.succeeded(id).await;
    dying.kill9().await.unwrap();
    assert!(replies.next().now_or_never().is_none(), "replied too early");
    let _other = system.timed_worker("other").await;
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["payload"]["runner"], json!("dying"));
    let job = system.job(id).await;
    assert_eq!((job.attempt, job.finished_ms), (1, ended.finished_ms));
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_wait_for_their_first_worker() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let jobs: [JobId; 3] = [
        system.submit("a", 1).await,
        system.submit("b", 1).await,
        system.submit("c", 1).await,
    ];
    let _worker = system.timed_worker("late").await;
    for id in jobs {
        system.succeeded(id).await;
    }
    system.cleanup().await;
}
