//! A job that kills its runners does so a bounded number of times; then it is quarantined with the
//! reason.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::StatusCode;
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json, next};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::state::JobState;

/// A runner's lease (15 s), the retry tier that parks its job, and a margin.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

const TWO_ATTEMPTS: &str = "[apps.'bench/timed']\nmax_attempts = 2";

/// Kills the worker as soon as it runs the job.
async fn kill_while_running(system: &System, job: JobId, name: &str) {
    let mut victim = system.timed_worker(name).await;
    system
        .until("a worker has the job", RETRY_TIMEOUT, async || {
            let record = system.testbed.store().jobs().job(job).await.unwrap()?;
            let runs = record.state == JobState::Running;
            (runs && record.runner?.as_str() == name).then_some(())
        })
        .await;
    victim.kill9().await.unwrap();
}

fn assert_quarantined(record: &JobRecord, reason: &str) {
    assert_eq!(record.state, JobState::Failed);
    let error = record.error.as_ref().unwrap();
    assert_eq!(
        (error.status, error.error_type.as_str()),
        (503, "runner_disconnected")
    );
    assert_eq!(error.message, reason);
}

/// A runner's lease (15 s), and a few seconds: no other detection is needed.
const LEASE_TIMEOUT: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_job_of_a_killed_worker_is_queued_again_once_the_lease_lapsed() {
    let system = System::with_config(TWO_ATTEMPTS).await;
    let waits = system.submit("m", 600_000).await;
    kill_while_running(&system, waits, "first").await;
    let queued = system.until("it waits again", LEASE_TIMEOUT, async || {
        (system.job(waits).await.state == JobState::Queued).then_some(())
    });
    queued.await;
    let last = system.submit("m", 600_000).await;
    let mut victim = system.timed_worker("second").await;
    // The first of the two to be taken is the last attempt of one, and the other waits.
    let runs = system.until("a worker has one of them", RETRY_TIMEOUT, async || {
        for id in [waits, last] {
            if system.job(id).await.state == JobState::Running {
                return Some(id);
            }
        }
        None
    });
    let runs = runs.await;
    victim.kill9().await.unwrap();
    let expected = match runs == waits {
        true => JobState::Failed,
        false => JobState::Queued,
    };
    let known = system.until("its end is known", LEASE_TIMEOUT, async || {
        (system.job(runs).await.state == expected).then_some(())
    });
    known.await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_quarantined_after_its_attempts() {
    let system = System::with_config(TWO_ATTEMPTS).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let id = JobId::generate();
    let properties = BasicProperties::default()
        .with_message_id(id.to_string().into())
        .with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, r#"{"run_ms": 600000}"#, properties)
        .await;
    kill_while_running(&system, id, "first").await;
    kill_while_running(&system, id, "second").await;

    // A later worker is not affected.
    let _survivor = system.timed_worker("survivor").await;
    let record = system.ended_within(id, RETRY_TIMEOUT).await;
    let reason = "it was running when 2 runners were lost: first, second";
    assert_quarantined(&record, reason);
    assert_eq!(record.attempt, 2);
    // Not 503, which fal's clients repeat without success.
    let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
    assert_eq!(result.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(result.headers["x-fal-error-type"], "runner_disconnected");

    let app = TIMED.parse().unwrap();
    let dead_queue = system.testbed.topology().dead_queue(&app);
    let letter = next(&mut user.consume(&dead_queue).await).await;
    assert_eq!(header(&letter, "x-warmq-reason"), reason);
    let message = JobMessage::decode(&letter.data).unwrap();
    assert_eq!(message.job.id, id);
    let reply = json(&next(&mut replies).await);
    assert_eq!(
        (&reply["status"], &reply["error"]),
        (&"ERROR".into(), &reason.into())
    );
    system.succeeded(system.submit("m", 1).await).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_without_retry_has_one_attempt_by_http_and_amqp() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut headers = FieldTable::default();
    headers.insert("x-no-retry".into(), AMQPValue::Boolean(true));
    headers.insert("x-runner-hint".into(), AMQPValue::LongString("m".into()));
    let by_amqp = JobId::generate();
    let properties = BasicProperties::default()
        .with_message_id(by_amqp.to_string().into())
        .with_headers(headers);
    user.submit(TIMED, r#"{"run_ms": 600000}"#, properties)
        .await;
    kill_while_running(&system, by_amqp, "first").await;
    let headers = [("x-fal-no-retry", "1"), ("x-fal-runner-hint", "m")];
    let answer = system.post(TIMED, &headers, r#"{"run_ms": 600000}"#).await;
    let by_http = answer.job_id();
    kill_while_running(&system, by_http, "second").await;

    // There are no runners left, and the jobs end.
    for (id, runner) in [(by_amqp, "first"), (by_http, "second")] {
        let record = system.ended_within(id, RETRY_TIMEOUT).await;
        let reason = format!("it was running when its runner was lost: {runner}");
        assert_quarantined(&record, &reason);
        assert_eq!(record.attempt, 1);
    }
    let answer = system.post(TIMED, &[("x-no-retry", "maybe")], "{}").await;
    assert_eq!(answer.status, 422, "{:?}", answer.body);
    system.cleanup().await;
}
