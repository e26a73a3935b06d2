//! Clients poll ten times a second: a status reads a few hundred bytes, whatever the sizes of input
//! and output.

use reqwest::StatusCode;
use serde_json::json;
use warmq_testkit::{PrivateRedis, Testbed};
use warmq_tests::System;
use warmq_tests::system::TIMED;

/// Returns what Redis sent to all clients, bytes.
async fn sent(redis: &PrivateRedis) -> u64 {
    redis.stat("total_net_output_bytes").await.unwrap()
}

#[tokio::test]
async fn a_status_reads_neither_input_nor_output() {
    let redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    let _worker = system.timed_worker("a").await;
    let output = "x".repeat(200_000);
    let input = json!({"run_ms": 1, "load_ms": 1, "output": {"text": output}});
    let id = system.submit_to(TIMED, "m", input).await;
    system.succeeded(id).await;
    let polls = 100;
    let before = sent(&redis).await;
    for _ in 0..polls {
        let path = format!("/queue/{TIMED}/requests/{id}/status");
        let status = system.get(&path).await;
        assert_eq!(status.status, StatusCode::OK);
        assert_eq!(status.body["status"], "COMPLETED");
    }
    let each = (sent(&redis).await - before) / polls;
    // Heartbeats and polls of the dispatcher are included.
    assert!(each < 10_000, "{each} bytes per poll");
    let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
    assert_eq!(result.body["text"], output);
    system.cleanup().await;
}
