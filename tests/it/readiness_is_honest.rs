//! `/readyz` says what cannot work, before a job finds out.

use serde_json::Value;
use warmq_testkit::{Cluster, PrivateRedis, Proxy, eventually};
use warmq_tests::Stage;
use warmq_tests::stage::SOON;

/// A cluster with a router on a Redis of its own.
async fn stage(redis: &PrivateRedis) -> Stage {
    let cluster = Cluster::builder().redis_url(redis.url().expose());
    Stage::of(cluster.start().await.unwrap()).await
}

async fn command(redis: &PrivateRedis, words: &[&str]) {
    let client = redis::Client::open(redis.url().expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    let command = command.arg(&words[1..]);
    let _: () = command.query_async(&mut connection).await.unwrap();
}

/// Waits until the answer has this status. An answer is kept for a moment.
async fn ready(stage: &Stage, status: u16) -> Value {
    eventually(&format!("/readyz is {status}"), SOON, async || {
        let answer = stage.get("/readyz").await;
        (answer.status == status).then_some(answer.body)
    })
    .await
    .unwrap()
}

fn says(answer: &Value, what: &str, words: &str) {
    let said = answer[what].as_str().unwrap();
    assert!(said.contains(words), "{answer}");
}

#[tokio::test]
async fn a_full_redis_is_not_ready_until_it_has_room() {
    let redis = PrivateRedis::start().await.unwrap();
    let stage = stage(&redis).await;
    ready(&stage, 200).await;
    command(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    says(&ready(&stage, 503).await, "redis", "is full");
    // A router that starts meanwhile says so, too.
    let other = stage
        .cluster
        .router(&["--roles", "dispatch"])
        .await
        .unwrap();
    let answer = reqwest::get(format!("{}/readyz", other.url()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    command(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    ready(&stage, 200).await;
    drop(other);
    stage.clean_up().await;
}

#[tokio::test]
async fn a_redis_that_drops_results_when_it_is_full_is_warned_of() {
    let redis = PrivateRedis::start().await.unwrap();
    let stage = stage(&redis).await;
    command(&redis, &["CONFIG", "SET", "maxmemory", "100mb"]).await;
    command(
        &redis,
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    )
    .await;
    eventually("it is warned of", SOON, async || {
        let answer = ready(&stage, 200).await;
        let warnings = answer["warnings"].to_string();
        warnings
            .contains("maxmemory-policy allkeys-lru")
            .then_some(())
    })
    .await
    .unwrap();
    stage.clean_up().await;
}

#[tokio::test]
async fn a_redis_without_scripts_or_channels_is_not_ready() {
    let redis = PrivateRedis::start().await.unwrap();
    let stage = stage(&redis).await;
    for rule in ["-@scripting", "resetchannels"] {
        ready(&stage, 200).await;
        command(&redis, &["ACL", "SETUSER", "default", rule]).await;
        says(&ready(&stage, 503).await, "redis", "does not let its user");
        command(
            &redis,
            &["ACL", "SETUSER", "default", "+@all", "allchannels"],
        )
        .await;
    }
    stage.clean_up().await;
}

#[tokio::test]
async fn a_storage_that_takes_no_files_is_not_ready() {
    let redis = PrivateRedis::start().await.unwrap();
    let stage = stage(&redis).await;
    let folder = stage.cluster.folder().join("files");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    says(&ready(&stage, 503).await, "storage", "does not take files");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    ready(&stage, 200).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn the_answer_names_no_addresses_and_no_users() {
    let cluster = Cluster::builder().start().await.unwrap();
    let amqp = Proxy::of(cluster.amqp_url()).await.unwrap();
    let redis = Proxy::of(cluster.redis_url()).await.unwrap();
    let (amqp_url, redis_url) = (amqp.url(), redis.url());
    let mut stage = Stage::of(cluster).await;
    let args = [
        "--amqp-url",
        amqp_url.expose(),
        "--redis-url",
        redis_url.expose(),
    ];
    stage.replace_router(&args).await;
    amqp.shut();
    redis.shut();
    let answer = eventually("neither is ready", SOON, async || {
        let answer = ready(&stage, 503).await;
        (answer["rabbitmq"] != "ok" && answer["redis"] != "ok").then_some(answer)
    })
    .await
    .unwrap();
    for server in ["rabbitmq", "redis"] {
        let said = answer[server].as_str().unwrap();
        assert!(
            said.contains("unreachable") || said.contains("broke"),
            "{said}"
        );
        assert!(
            !said.contains("127.0.0.1") && !said.contains("guest"),
            "{said}"
        );
    }
    amqp.reopen();
    redis.reopen();
    ready(&stage, 200).await;
    stage.clean_up().await;
}
