//! An uploaded file is named in a job's input by its URL, and the worker reads it from the
//! storage.

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_tests::amqp::{DIRECT_REPLY_TO, with_id};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;

/// Runs a job that returns its input as output.
async fn echo(system: &System, output: Value) -> JobId {
    let input = json!({"run_ms": 1, "load_ms": 1, "output": output});
    system.submit_to(TIMED, "m", input).await
}

#[tokio::test]
async fn a_link_becomes_a_reference_in_the_job_and_a_link_in_responses() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let id = echo(&system, json!({"image": {"url": url}})).await;
    let record = system.succeeded(id).await;
    let given = record.spec.input["output"]["image"]["url"]
        .as_str()
        .unwrap();
    assert!(given.starts_with("warmq://files/uploads/"), "{given}");
    assert!(given.ends_with("/cat.png"), "{given}");

    let result = format!("/queue/{TIMED}/requests/{id}");
    let first = system.get(&result).await.body;
    let found = system.fetch(first["image"]["url"].as_str().unwrap()).await;
    assert_eq!(found.bytes, b"a cat");
    let job = system.get(&format!("/v1/jobs/{id}")).await.body;
    assert_eq!(job["output"], first, "the same url in each answer");
    assert_eq!(job["input"]["output"], first);
    assert_eq!(system.get(&result).await.body, first);
    system.cleanup().await;
}

#[tokio::test]
async fn replies_by_amqp_have_links_too() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let input = json!({"run_ms": 1, "load_ms": 1, "output": {"url": url}}).to_string();
    let properties = with_id(JobId::generate(), DIRECT_REPLY_TO);
    user.submit(TIMED, &input, properties).await;
    let reply = replies.next().await.unwrap().unwrap();
    let reply: Value = serde_json::from_slice(&reply.data).unwrap();
    let found = system
        .fetch(reply["payload"]["url"].as_str().unwrap())
        .await;
    assert_eq!(found.bytes, b"a cat");
    system.cleanup().await;
}

#[tokio::test]
async fn a_reference_without_a_link_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let (_, key) = url.split_once("/uploads/").unwrap();
    for reference in [
        format!("warmq://files/uploads/{key}"),
        format!(" WARMQ://files/uploads/{key}"),
        "warmq://files/../secret".to_owned(),
    ] {
        let input = json!({"output": [{"image_url": reference}]}).to_string();
        let refused = system.post(TIMED, &[], &input).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{reference}"
        );
        let problem = &refused.body["detail"][0];
        assert_eq!(problem["loc"], json!(["body", "output", 0, "image_url"]));
        assert_eq!(problem["type"], "file_reference");
    }
    let expired = system.signature("read", &format!("uploads/{key}"), 1).await;
    let foreign = json!([
        url.replace("cat.png", "dog.png"),
        format!("{}/files/{expired}/uploads/{key}", system.router.url()),
        "https://example.com/files/1-a/b/c.png",
        format!("see {url}"),
        "a red circle",
    ]);
    let id = echo(&system, foreign.clone()).await;
    let record = system.succeeded(id).await;
    assert_eq!(
        record.spec.input["output"], foreign,
        "they stay as they are"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn links_to_a_jobs_files_expire_with_its_result_or_as_requested() {
    let system = System::with_config("[apps.'bench/timed']\nretention = '1h'").await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let input = json!({"run_ms": 1, "load_ms": 1, "output": {"url": url}}).to_string();
    let wish = [(
        "x-fal-object-lifecycle-preference",
        r#"{"expiration_duration_seconds": 60}"#,
    )];
    for (headers, expected_s) in [(&[][..], 3600), (&wish[..], 60)] {
        let accepted = system.post(TIMED, headers, &input).await.body;
        let id = accepted["request_id"].as_str().unwrap().parse().unwrap();
        let ended_s = system
            .succeeded(id)
            .await
            .finished_ms
            .unwrap()
            .div_ceil(1000);
        let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
        let url = result.body["url"].as_str().unwrap().to_owned();
        let (_, signature) = url.split_once("/files/").unwrap();
        let (expires, _) = signature.split_once('-').unwrap();
        assert_eq!(expires.parse::<u64>().unwrap(), ended_s + expected_s);
    }
    let wrong = [("x-fal-object-lifecycle-preference", "1h")];
    let refused = system.post(TIMED, &wrong, &input).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let place = json!(["header", "x-fal-object-lifecycle-preference"]);
    assert_eq!(refused.body["detail"][0]["loc"], place);
    let refused = system.initiate_upload("a.png", "image/png", "soon").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    system.cleanup().await;
}
