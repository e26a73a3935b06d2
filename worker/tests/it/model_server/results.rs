//! What is sent, and what becomes of the response.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use warmq_types::hint::Hint;
use warmq_types::job::{JobSpec, Priority};
use warmq_types::state::JobState;

use super::stub::Stub;
use super::{Scene, config, respond, running};
use crate::harness::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_posted_with_its_input_and_headers_that_name_it() {
    let scene = Scene::new().await;
    let mut job = scene.world.spec("sdxl", json!({"prompt": "café"}));
    job.path = "image/edit".to_owned();
    scene
        .world
        .testbed
        .store()
        .jobs()
        .create(&job)
        .await
        .unwrap();
    scene.world.publish_shared(&job).await;
    let record = scene.world.reached(&job, JobState::Succeeded).await;
    let output = record.output.unwrap();
    assert_eq!(output["path"], "/image/edit");
    assert_eq!(output["input"], json!({"prompt": "café"}));
    let headers = &output["headers"];
    assert_eq!(headers["x-fal-request-id"], job.id.to_string());
    assert_eq!(headers["x-fal-runner-hint"], "sdxl");
    assert_eq!(headers["x-fal-endpoint"], "test/timed/image/edit");
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers["traceparent"].as_str().unwrap().starts_with("00-"));

    let job = JobSpec {
        path: "cancel/1".to_owned(),
        ..scene.world.spec("", Value::Null)
    };
    scene
        .world
        .testbed
        .store()
        .jobs()
        .create(&job)
        .await
        .unwrap();
    scene.world.publish_shared(&job).await;
    let error = scene.world.reached(&job, JobState::Failed).await.error;
    assert_eq!(error.unwrap().status, 404, "the path is the contract's");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runner_reports_the_hints_of_each_response() {
    let scene = Scene::new().await;
    let server = &scene.stub.behaviour;
    assert_eq!(scene.hints().await, [""; 0]);
    scene.output("a", json!({})).await;
    assert_eq!(
        scene.hints().await,
        ["a"],
        "without the header, the hint served last"
    );
    scene.output("b", json!({})).await;
    assert_eq!(scene.hints().await, ["b"]);
    server.set_header("x-fal-runner-hints", "b, c");
    scene.output("c", json!({})).await;
    assert_eq!(scene.hints().await, ["b", "c"]);
    // Between jobs, the probes report them.
    server.set_header(
        "x-fal-runner-hints",
        "caf\u{e9}".chars().map(|c| c as u8).collect::<Vec<_>>(),
    );
    scene.until_hints(&["café"]).await;
    server.set_header("x-fal-runner-hints", "");
    scene.until_hints(&[]).await;
    let many: Vec<String> = (0..10_000).map(|number| format!("m{number}")).collect();
    server.set_header("x-fal-runner-hints", many.join(","));
    scene.output("m1", json!({})).await;
    assert_eq!(scene.hints().await.len(), 256);
    server.remove_header("x-fal-runner-hints");
    scene.output("x", json!({})).await;
    assert_eq!(
        scene.hints().await.len(),
        256,
        "an error page has no hints, either"
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_statuses_than_2xx_503_and_504_end_the_job() {
    let scene = Scene::new().await;
    let none = || json!({});
    let wrong = json!({"detail": [{"loc": ["body", "seed"], "msg": "too large", "type": "value"}]});
    for (input, status, message) in [
        (respond(422, wrong, none()), 422, "seed: too large"),
        (
            respond(404, json!({"detail": "no model"}), none()),
            404,
            "no model",
        ),
        (respond(429, json!("slow down"), none()), 429, "slow down"),
        (
            respond(500, json!("Internal Server Error"), none()),
            500,
            "Internal Server Error",
        ),
        (
            respond(502, json!({"error": {"message": "no"}}), none()),
            502,
            "no",
        ),
        (
            respond(503, json!("full"), json!({"x-fal-needs-retry": "0"})),
            503,
            "full",
        ),
        (
            respond(307, json!(""), json!({"location": "http://10.0.0.1/"})),
            502,
            "redirects",
        ),
        (
            respond(
                200,
                json!("{\"a\": "),
                json!({"content-type": "application/json"}),
            ),
            502,
            "JSON",
        ),
        (
            respond(200, json!("<html>"), json!({"content-type": "text/html"})),
            502,
            "text/html",
        ),
        (json!({"do": "announce_10_gb"}), 502, "exceeds 128 MiB"),
        (json!({"do": "endless"}), 502, "exceeds 128 MiB"),
        (
            json!({"do": "events", "events": []}),
            502,
            "without an event",
        ),
    ] {
        let record = scene.failed(input.clone()).await;
        let error = record.error.unwrap();
        assert_eq!(error.status, status, "{input}: {}", error.message);
        assert!(
            error.message.contains(message),
            "{input}: {}",
            error.message
        );
        assert_eq!(record.attempt, 1, "{input}");
    }
    assert!(scene.world.idle("a").await.fault.is_none());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_unavailable_or_breaks_off_gets_another_attempt() {
    let scene = Scene::new().await;
    let _redispatching = scene.world.redispatching().await;
    for failing in [
        respond(503, json!("busy"), json!({})),
        respond(504, json!("late"), json!({})),
        respond(500, json!("x"), json!({"x-fal-needs-retry": "1"})),
        json!({"do": "half"}),
    ] {
        let jobs = scene.stub.behaviour.jobs.load(Ordering::SeqCst);
        let mut input = failing.clone();
        input["fails"] = json!(jobs + 1);
        let job = scene.world.share("", input).await;
        let record = scene.world.reached(&job, JobState::Succeeded).await;
        assert_eq!(record.attempt, 2, "{failing}");
    }
    let record = scene
        .failed(respond(503, json!("secret path"), json!({})))
        .await;
    let message = record.error.unwrap().message;
    assert!(
        message.contains("the model server responded 503"),
        "{message}"
    );
    assert!(!message.contains("secret"), "{message}");
    assert_eq!(record.attempt, 3);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_respond_in_time_gets_another_attempt() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let mut config = config(&world, running(&stub));
    let options = config.engine.http.as_mut().unwrap();
    options.timeout = Some(std::time::Duration::from_millis(300));
    let worker = world.worker_with(Default::default(), config).await;
    let topology = world.testbed.topology();
    let lane = topology.lane_queue(&world.app, Priority::Normal);
    let mut lane = world.listen(&lane).await;
    let job = world.share("", json!({"sleep_ms": 60_000})).await;
    let message = lane.job_message().await;
    assert_eq!(message.job.id, job.id);
    let fault = &message.faults[0];
    assert_eq!(fault.message, "the model server did not respond in time");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_become_the_jobs_stream_and_the_last_one_the_result() {
    let scene = Scene::new().await;
    let events = json!([{"step": 1}, {"step": 2}, {"images": ["data:image/png;base64,cG5n"]}]);
    let job = scene
        .world
        .share("", json!({"do": "events", "events": events}))
        .await;
    let output = scene
        .world
        .reached(&job, JobState::Succeeded)
        .await
        .output
        .unwrap();
    let url = output["images"][0].as_str().unwrap();
    assert!(
        url.starts_with("warmq://files/") && url.ends_with("/0.png"),
        "{url}"
    );
    let log = scene.world.testbed.store().log();
    let stream = log.events(&scene.world.app, job.id, 0).await.unwrap();
    assert_eq!(stream, [json!({"step": 1}), json!({"step": 2})]);
    assert_eq!(
        log.events(&scene.world.app, job.id, 1).await.unwrap().len(),
        1
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_data_uris_are_stored_and_urls_pass() {
    let scene = Scene::new().await;
    let storage =
        warmq_objects::ObjectStorage::open(&scene.world.config("a").servers.storage).unwrap();
    let read = async |reference: &Value| {
        let key = reference
            .as_str()
            .unwrap()
            .strip_prefix("warmq://files/")
            .unwrap();
        storage.get_at_most(key, 100).await.unwrap().unwrap()
    };
    let output = scene.output("", json!({"do": "picture"})).await;
    assert_eq!(
        read(&output["images"][0]["url"]).await,
        b"\x89PNG".as_slice()
    );
    assert_eq!(output["images"][0]["content_type"], "image/png");
    let body =
        json!({"image": {"url": "data:image/webp;base64,d2VicA=="}, "more": "https://h/x.png"});
    let output = scene.output("", respond(200, body, json!({}))).await;
    assert_eq!(read(&output["image"]["url"]).await, b"webp".as_slice());
    assert_eq!(output["more"], "https://h/x.png");
    // The file of an earlier result is an input: the server cannot read the storage.
    let reference = output["image"]["url"].clone();
    let echoed = scene
        .output("", json!({"image_url": reference, "do": "echo"}))
        .await;
    let stored_again = read(&echoed["input"]["image_url"]).await;
    assert_eq!(
        stored_again,
        b"webp".as_slice(),
        "it was sent as a data: URI"
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_closes_the_connection_and_is_posted_where_the_server_offers_it() {
    let scene = Scene::new().await;
    let server = &scene.stub.behaviour;
    let cancel = async |expected_closed: usize| {
        let job = scene.world.share("", json!({"sleep_ms": 60_000})).await;
        scene.job_posted(&job).await;
        let store = scene.world.testbed.store();
        store.cancellation().cancel(&job.app, job.id).await.unwrap();
        scene
            .world
            .until("the connection is closed", async || {
                (server.closed.load(Ordering::SeqCst) == expected_closed).then_some(())
            })
            .await;
        scene.world.idle("a").await;
        job
    };
    cancel(1).await;
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.contains("cancel"))
    );
    server.set_header("x-warmq-cancel", "1");
    scene.output("", json!({})).await;
    let job = cancel(2).await;
    let expected = format!("POST /cancel/{}", job.id);
    scene
        .world
        .until("the cancellation is posted", async || {
            server.requests().contains(&expected).then_some(())
        })
        .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_the_server_holds_makes_a_run_warm() {
    let scene = Scene::new().await;
    let run = async |hint: &str| {
        let job = scene.world.share(hint, json!({"sleep_ms": 40})).await;
        let record = scene.world.reached(&job, JobState::Succeeded).await;
        record.timings.unwrap()
    };
    let (cold, warm) = (run("a").await, run("a").await);
    assert!(!cold.warm && cold.load_ms > 0);
    assert!(warm.warm && warm.load_ms == 0 && warm.run_ms >= 40);
    assert!(
        Hint::parse("a").is_ok() && run("").await.warm,
        "nothing to load"
    );
    scene.end().await;
}
