//! `/readyz` reports what cannot work, before a job fails.

use serde_json::Value;
use warmq_testkit::{PrivateRedis, Proxy, Testbed, eventually};
use warmq_tests::System;
use warmq_tests::files::{break_storage, mend_storage};
use warmq_tests::system::TIMEOUT;

/// Starts a router on a private Redis.
async fn system(redis: &PrivateRedis) -> System {
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    System::of(testbed.start().await.unwrap()).await
}

async fn command(redis: &PrivateRedis, words: &[&str]) {
    let client = redis::Client::open(redis.url().expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    let command = command.arg(&words[1..]);
    let _: () = command.query_async(&mut connection).await.unwrap();
}

/// Waits until `/readyz` has this status; responses are cached briefly.
async fn ready(system: &System, status: u16) -> Value {
    eventually(&format!("/readyz is {status}"), TIMEOUT, async || {
        let answer = system.get("/readyz").await;
        (answer.status == status).then_some(answer.body)
    })
    .await
    .unwrap()
}

fn assert_reports(answer: &Value, what: &str, words: &str) {
    let output = answer[what].as_str().unwrap();
    assert!(output.contains(words), "{answer}");
}

#[tokio::test]
async fn a_full_redis_is_not_ready_until_it_has_room() {
    let redis = PrivateRedis::start().await.unwrap();
    let system = system(&redis).await;
    ready(&system, 200).await;
    command(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_reports(&ready(&system, 503).await, "redis", "is full");
    // A router that starts meanwhile reports it, too.
    let other = system
        .testbed
        .router(&["--roles", "dispatch"])
        .await
        .unwrap();
    let answer = reqwest::get(format!("{}/readyz", other.url()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    command(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    ready(&system, 200).await;
    drop(other);
    system.cleanup().await;
}

#[tokio::test]
async fn a_redis_that_may_evict_keys_is_logged() {
    let redis = PrivateRedis::start().await.unwrap();
    let system = system(&redis).await;
    command(&redis, &["CONFIG", "SET", "maxmemory", "100mb"]).await;
    command(
        &redis,
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    )
    .await;
    eventually("it is warned of", TIMEOUT, async || {
        let answer = ready(&system, 200).await;
        let warnings = answer["warnings"].to_string();
        warnings
            .contains("maxmemory-policy allkeys-lru")
            .then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}

#[tokio::test]
async fn a_redis_without_scripts_or_channels_is_not_ready() {
    let redis = PrivateRedis::start().await.unwrap();
    let system = system(&redis).await;
    for rule in ["-@scripting", "resetchannels"] {
        ready(&system, 200).await;
        command(&redis, &["ACL", "SETUSER", "default", rule]).await;
        assert_reports(&ready(&system, 503).await, "redis", "does not let its user");
        command(
            &redis,
            &["ACL", "SETUSER", "default", "+@all", "allchannels"],
        )
        .await;
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_storage_that_takes_no_files_is_not_ready() {
    let redis = PrivateRedis::start().await.unwrap();
    let system = system(&redis).await;
    let folder = system.testbed.folder().join("files");
    break_storage(&folder);
    assert_reports(&ready(&system, 503).await, "storage", "does not take files");
    mend_storage(&folder);
    ready(&system, 200).await;
    system.cleanup().await;
}

#[tokio::test]
async fn readyz_reveals_no_addresses_or_users() {
    let testbed = Testbed::builder().start().await.unwrap();
    let amqp = Proxy::of(testbed.amqp_url()).await.unwrap();
    let redis = Proxy::of(testbed.redis_url()).await.unwrap();
    let (amqp_url, redis_url) = (amqp.url(), redis.url());
    let mut system = System::of(testbed).await;
    let args = [
        "--amqp-url",
        amqp_url.expose(),
        "--redis-url",
        redis_url.expose(),
    ];
    system.replace_router(&args).await;
    amqp.shut();
    redis.shut();
    let answer = eventually("neither is ready", TIMEOUT, async || {
        let answer = ready(&system, 503).await;
        (answer["rabbitmq"] != "ok" && answer["redis"] != "ok").then_some(answer)
    })
    .await
    .unwrap();
    for server in ["rabbitmq", "redis"] {
        let output = answer[server].as_str().unwrap();
        assert!(
            output.contains("unreachable") || output.contains("broke"),
            "{output}"
        );
        assert!(
            !output.contains("127.0.0.1") && !output.contains("guest"),
            "{output}"
        );
    }
    amqp.reopen();
    redis.reopen();
    ready(&system, 200).await;
    system.cleanup().await;
}
