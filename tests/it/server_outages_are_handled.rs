//! RabbitMQ or Redis fails under a running router: submissions are refused at once, none is half
//! accepted, and the router recovers.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use warmq_testkit::{Proxy, eventually};
use warmq_tests::System;
use warmq_tests::amqp::{connection_blocked, connection_unblocked};
use warmq_tests::system::{TIMED, TIMEOUT};

/// Submits to a router that reaches one server through `proxy`: with it, without it, with it again.
async fn shut_and_reopen(system: &System, setting: &str, proxy: &Proxy) {
    let router = system
        .testbed
        .router(&[setting, proxy.url().expose()])
        .await
        .unwrap();
    let client = reqwest::Client::new();
    let url = format!("{}/queue/{TIMED}", router.url());
    let submit = async || {
        client
            .post(&url)
            .body(r#"{"run_ms": 1}"#)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(submit().await.status(), StatusCode::OK);

    proxy.shut();
    let refused = submit().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    // The response may be cached for a second.
    eventually("the router is not ready", TIMEOUT, async || {
        let ready = client.get(format!("{}/readyz", router.url()));
        let status = ready.send().await.unwrap().status();
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await
    .unwrap();

    proxy.reopen();
    eventually("jobs are accepted again", TIMEOUT, async || {
        (submit().await.status() == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    // Accepted jobs ran; refused ones left no waiting job.
    eventually("nothing waits", TIMEOUT, async || {
        let apps = system.get("/v1/apps").await;
        (apps.body["apps"][0]["queued"] == json!(0)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn without_rabbitmq_submissions_get_503_with_retry_after() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    shut_and_reopen(&system, "--amqp-url", &proxy).await;
    system.cleanup().await;
}

#[tokio::test]
async fn without_redis_submissions_get_503_with_retry_after() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let proxy = Proxy::of(system.testbed.redis_url()).await.unwrap();
    shut_and_reopen(&system, "--redis-url", &proxy).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_blocked_broker_connection_is_reported_at_once_and_so_is_its_end() {
    let mut system = System::start().await;
    let proxy = Proxy::of(system.testbed.amqp_url()).await.unwrap();
    system.connect_through("--amqp-url", &proxy).await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    // An alarm on the shared broker would block the messages of other tests.
    proxy.inject(&connection_blocked("low on memory"));
    let submit = async || system.post(TIMED, &[], r#"{"run_ms": 1}"#).await;
    // Without the broker's notice, the first response would take as long as a confirm timeout: 10
    // s.
    let refused = eventually(
        "submissions are refused",
        Duration::from_secs(8),
        async || {
            Some(submit().await).filter(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE)
        },
    );
    let refused = refused.await.unwrap();
    assert!(refused.headers.contains_key("retry-after"));
    let ready = eventually("the router is not ready", TIMEOUT, async || {
        let ready = system.get("/readyz").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(ready)
    });
    let ready = ready.await.unwrap();
    let reported = ready.body["rabbitmq"].as_str().unwrap();
    assert!(reported.contains("low on memory"), "{reported}");
    proxy.inject(&connection_unblocked());
    eventually("jobs are accepted again", TIMEOUT, async || {
        (submit().await.status == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    eventually("nothing waits", TIMEOUT, async || {
        let apps = system.get("/v1/apps").await;
        (apps.body["apps"][0]["queued"] == json!(0)).then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}
