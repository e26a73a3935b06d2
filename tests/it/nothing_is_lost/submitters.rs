//! A submitter dies or loses its connection before its job is confirmed, and submits again.

use lapin::Consumer;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warmq_testkit::{Proxy, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json, next, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

const SHORT: &str = r#"{"run_ms": 1}"#;
const LONG: &str = r#"{"run_ms": 2000}"#;

async fn next_reply(replies: &mut Consumer) -> Value {
    json(&next(replies).await)
}

#[tokio::test]
async fn resubmitting_after_a_lost_confirm_returns_the_same_job() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let [ended, running, lost] = [JobId::generate(), JobId::generate(), JobId::generate()];
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    let dying = AmqpClient::connect_at(&system.testbed, &proxy.url()).await;
    let _unheard = dying.consume(DIRECT_REPLY_TO).await;
    // The submitter cannot detect whether its messages arrived.
    for (id, input) in [(ended, SHORT), (running, LONG)] {
        let properties = with_id(id, DIRECT_REPLY_TO);
        drop(dying.publish(TIMED, input, properties).await);
    }
    system
        .reached_once_recorded(ended, JobState::Succeeded)
        .await;
    system
        .reached_once_recorded(running, JobState::Running)
        .await;
    proxy.mute("warmq-tests");
    let properties = with_id(lost, DIRECT_REPLY_TO);
    drop(dying.publish(TIMED, SHORT, properties).await);
    proxy.shut();

    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    for (id, input) in [(ended, SHORT), (running, LONG), (lost, SHORT)] {
        let properties = with_id(id, DIRECT_REPLY_TO);
        user.submit(TIMED, input, properties).await;
    }
    let mut reported = Vec::new();
    while reported.len() < 3 {
        let reply = next_reply(&mut replies).await;
        assert_eq!(reply["status"], "OK");
        let id: JobId = reply["request_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(system.job(id).await.attempt, 1);
        reported.push(id);
    }
    reported.sort();
    assert_eq!(reported, [ended, running, lost]);
    system.cleanup().await;
}

#[tokio::test]
async fn resubmitting_after_a_lost_response_returns_the_same_job() {
    let system = System::start().await;
    let worker = system.timed_worker("a").await;
    let address = system.router.url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n{SHORT}",
        SHORT.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let key = "k".parse().unwrap();
    let first = eventually("the job is known", TIMEOUT, async || {
        let store = system.testbed.store();
        store
            .jobs()
            .job_of_key(worker.app(), None, &key)
            .await
            .unwrap()
    })
    .await
    .unwrap();
    drop(connection);
    let again = system.post(TIMED, &[("idempotency-key", "k")], SHORT).await;
    assert_eq!(again.body["request_id"], first.to_string());
    assert_eq!(system.succeeded(first).await.attempt, 1);
    system.cleanup().await;
}
