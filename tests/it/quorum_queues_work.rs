//! With `--queue-type quorum`, as in a RabbitMQ cluster, everything works the same.

use std::time::Duration;

use warmq_testkit::Testbed;
use warmq_tests::amqp::{DIRECT_REPLY_TO, json, next, with_id};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::queue_type::QueueType;
use warmq_types::state::JobState;

/// A runner's lease (15 s), the retry tier that parks its job, and a margin.
const CRASH_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn quorum_queues_carry_holds_claims_retries_and_events() {
    let testbed = Testbed::builder().queue_type(QueueType::Quorum);
    let mut system = System::of(testbed.start().await.unwrap()).await;
    let mut dying = system.timed_worker("dying").await;
    // Held by one router, dispatched by the next.
    let held = system.hold_jobs().await;
    system.replace_router(&[]).await;
    for id in held {
        assert_eq!(system.succeeded(id).await.attempt, 1);
    }
    // In the low lane; without a hint, so by the shared queue.
    let headers = [("x-fal-queue-priority", "low")];
    let low = system.post(TIMED, &headers, r#"{"run_ms": 1}"#).await;
    let low = low.body["request_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(system.succeeded(low).await.attempt, 1);
    // By AMQP, parked while the lease of a dead worker lasts, with a reply.
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let id = JobId::generate();
    let properties = with_id(id, DIRECT_REPLY_TO);
    user.submit(TIMED, r#"{"run_ms": 1000}"#, properties).await;
    system.reached_once_recorded(id, JobState::Running).await;
    dying.kill9().await.unwrap();
    let _other = system.timed_worker("other").await;
    let job = system.ended_within(id, CRASH_TIMEOUT).await;
    assert_eq!((job.state, job.attempt), (JobState::Succeeded, 2));
    assert_eq!(
        json(&next(&mut replies).await)["payload"]["runner"],
        "other"
    );
    system.cleanup().await;
}
