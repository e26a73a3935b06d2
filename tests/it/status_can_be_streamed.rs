//! A stream reports each change of a job until its end, and its log.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_tests::system::TIMED;
use warmq_tests::{HttpResponse, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

fn status_path(id: JobId) -> String {
    format!("/queue/{TIMED}/requests/{id}/status")
}

/// Parses the events of an ended stream: `data: {json}` and an empty line each, and heartbeats.
fn events(answer: &HttpResponse) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    assert!(text.is_ascii(), "{text}");
    let blocks = text.strip_suffix("\n\n").unwrap().split("\n\n");
    blocks
        .filter(|block| *block != ": ping")
        .map(|block| serde_json::from_str(block.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

fn statuses(events: &[Value]) -> Vec<&str> {
    let mut statuses: Vec<&str> = events
        .iter()
        .map(|event| event["status"].as_str().unwrap())
        .collect();
    statuses.dedup();
    statuses
}

fn log(events: &[Value]) -> Vec<&Value> {
    let logs = events.iter().flat_map(|event| event["logs"].as_array());
    logs.flatten().collect()
}

#[tokio::test]
async fn each_change_is_streamed_until_the_job_ended() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 3000, "load_ms": 500});
    let busy = system.submit_to(TIMED, "other", input.clone()).await;
    system.reached(busy, JobState::Running).await;
    let id = system.submit_to(TIMED, "m", input).await;
    let answer = system
        .get(&format!("{}/stream?logs=1", status_path(id)))
        .await;
    assert_eq!(answer.headers["x-fal-request-id"], id.to_string());
    let events = events(&answer);
    assert_eq!(statuses(&events), ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]);
    assert_eq!(events[0]["queue_position"], 0);
    let last = events.last().unwrap();
    assert!(last["metrics"]["inference_time"].as_f64().unwrap() >= 3.0);
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event["progress"]["phase"] == "running")
        .map(|event| event["progress"]["step"].as_u64().unwrap())
        .collect();
    assert!(steps.len() > 2 && steps.is_sorted(), "{steps:?}");

    // A stream sends each log line once; a poll returns all of them.
    let polled = system.get(&format!("{}?logs=true", status_path(id))).await;
    let polled = [polled.body];
    assert_eq!(log(&events), log(&polled));
    let messages: Vec<&str> = log(&polled)
        .iter()
        .map(|entry| entry["message"].as_str().unwrap())
        .collect();
    for begin in [
        "sent to a: ",
        "attempt 1 begins",
        "loading",
        "succeeded: cold, ",
    ] {
        let found = messages.iter().filter(|message| message.starts_with(begin));
        assert_eq!(found.count(), 1, "{begin}: {messages:#?}");
    }
    let steps = messages.iter();
    let steps = steps.filter(|message| message.starts_with("running: step "));
    assert!((1..=5).contains(&steps.count()), "{messages:#?}");
    assert!(messages.len() <= 12, "{messages:#?}");
    let first = log(&polled)[0];
    assert_eq!(first["source"], "USER");
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
    system.cleanup().await;
}

#[tokio::test]
async fn a_failure_is_streamed_in_ascii_and_logs_only_on_request() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 1, "load_ms": 0, "fail": "kein schönes 猫🐈"});
    let id = system.submit_to(TIMED, "m", input).await;
    let streamed = events(&system.get(&format!("{}/stream", status_path(id))).await);
    let last = streamed.last().unwrap();
    assert_eq!(last["status"], "COMPLETED");
    assert_eq!(last["error"], "kein schönes 猫🐈");
    assert_eq!(last["error_type"], "model_error");
    assert!(streamed.iter().all(|event| event["logs"].is_null()));
    // An ended job has one event.
    let again = events(
        &system
            .get(&format!("{}/stream?logs=1", status_path(id)))
            .await,
    );
    assert_eq!(again.len(), 1);
    assert_eq!(log(&again).last().unwrap()["level"], "ERROR");
    system.cleanup().await;
}

#[tokio::test]
async fn queue_positions_and_a_cancellation_are_streamed() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let first = system.submit("m", 1).await;
    let second = system.submit("m", 1).await;
    let (path, heard) = (
        format!("{}/stream", status_path(second)),
        Duration::from_secs(2),
    );
    let (answer, ()) = tokio::join!(system.get(&path), async {
        // Long enough for the stream to send the first position; a shorter wait would weaken the
        // test, not break it.
        tokio::time::sleep(heard).await;
        for id in [first, second] {
            let path = format!("/v1/jobs/{id}");
            system.http(reqwest::Method::DELETE, &path, &[], "").await;
            tokio::time::sleep(heard).await;
        }
    });
    let events = events(&answer);
    let places: Vec<&Value> = events
        .iter()
        .map(|event| &event["queue_position"])
        .collect();
    assert_eq!(places, [&json!(1), &json!(0), &Value::Null]);
    assert_eq!(events.last().unwrap()["error_type"], "client_cancelled");
    system.cleanup().await;
}

#[tokio::test]
async fn idle_streams_send_keep_alives_and_an_unknown_job_is_not_found() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let id = system.submit("m", 1).await;
    let url = format!("{}{}/stream", system.router.url(), status_path(id));
    let mut answer = reqwest::get(url).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\n\n: ping\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(30), answer.chunk());
        let chunk = chunk.await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let unknown = status_path(JobId::generate());
    let answer = system.get(&format!("{unknown}/stream")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    system.cleanup().await;
}
