//! Routers and workers of neighbouring versions work together: a build that cannot work with those
//! that run refuses to start, and what a newer build stores is kept.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use warmq_testkit::{Testbed, eventually};
use warmq_tests::Program;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::KeyId;
use warmq_types::protocol::Protocol;

/// Versions that this build cannot work with.
const DISTANT: &str = "7 9";

/// A newer version that works with this build's.
const NEIGHBOURING: &str = "1 2";

async fn redis(testbed: &Testbed) -> MultiplexedConnection {
    let client = redis::Client::open(testbed.redis_url().expose()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn protocols(testbed: &Testbed) -> String {
    format!("{}:protocols", testbed.namespace())
}

/// Registers live processes of these versions, for `lease` from now on.
async fn register(testbed: &Testbed, versions: &str, lease: Duration) {
    let until_ms = testbed.store().now_ms().await.unwrap() + lease.as_millis() as u64;
    let mut redis = redis(testbed).await;
    let _: () = redis
        .zadd(protocols(testbed), versions, until_ms)
        .await
        .unwrap();
}

/// Renews the lease of distant processes until aborted.
fn distant_processes(testbed: Testbed) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            register(&testbed, DISTANT, Duration::from_secs(15)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

#[tokio::test]
async fn a_build_that_cannot_work_with_running_processes_refuses_to_start_and_changes_nothing() {
    let testbed = Testbed::builder().start().await.unwrap();
    let mut redis = redis(&testbed).await;
    let (namespace, key) = (testbed.namespace().clone(), protocols(&testbed));
    register(&testbed, DISTANT, Duration::from_secs(15)).await;
    let distant = distant_processes(testbed);
    let worker = ["--app", TIMED, "--engine", "timed"];
    for (program, args) in [
        (
            "warmq-router",
            ["--listen", "127.0.0.1:0", "--roles", "api"],
        ),
        ("warmq-worker", worker),
    ] {
        let refused = Program::new(program, &args).env("WARMQ_NAMESPACE", namespace.as_str());
        let refused = refused.run().await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        let sentence = format!(
            "{program}: this build speaks version {} of the protocol, but running routers or workers speak version 9 and \
             work with 7 or later: install a newer release here, or stop them all",
            Protocol::OURS.speaks
        );
        assert!(refused.err.contains(&sentence), "{refused:?}");
    }
    let mut keys: Vec<String> = redis.keys(format!("{namespace}:*")).await.unwrap();
    // The check of the server's settings precedes all else.
    keys.retain(|key| *key != format!("{namespace}:check"));
    assert_eq!(keys, std::slice::from_ref(&key));
    let entries: Vec<String> = redis.zrange(&key, 0, -1).await.unwrap();
    assert_eq!(entries, [DISTANT]);
    distant.abort();
    let _ = distant.await;
    let _: () = redis.del(key).await.unwrap();
}

#[tokio::test]
async fn a_build_starts_beside_its_neighbours_and_once_distant_processes_are_stopped() {
    let testbed = Testbed::builder().start().await.unwrap();
    let mut redis = redis(&testbed).await;
    register(&testbed, NEIGHBOURING, Duration::from_secs(600)).await;
    register(&testbed, DISTANT, Duration::from_secs(2)).await;
    register(&testbed, "of a newer build", Duration::from_secs(600)).await;
    let router = testbed.router(&[]).await.unwrap();
    assert!(
        router
            .log_tail()
            .contains("waiting whether they are stopped")
    );
    let key = protocols(&testbed);
    let ours = Protocol::OURS.to_string();
    let registered = async || {
        let entries: Vec<String> = redis.zrange(&key, 0, -1).await.unwrap();
        entries.contains(&ours).then_some(entries)
    };
    let entries = eventually("it is registered", TIMEOUT, registered).await;
    assert!(!entries.unwrap().contains(&DISTANT.to_owned()));
    let lifetime_ms: i64 = redis.pttl(&key).await.unwrap();
    assert!((1..=15_000).contains(&lifetime_ms), "{lifetime_ms}");
    drop(router);
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn the_key_of_a_newer_build_is_read_and_keeps_what_is_unknown_when_its_limits_change() {
    let testbed = Testbed::builder().start().await.unwrap();
    let mut redis = redis(&testbed).await;
    let keys = format!("{}:api_keys", testbed.namespace());
    let stored = json!({
        "id": "alice-1", "scopes": ["read", "dream"], "created_ms": 5, "tags": ["x"],
        "limits": {"max_jobs": 3, "max_dreams": 4}, "secret_sha256": "07".repeat(32)
    });
    let _: () = redis
        .hset(&keys, "alice-1", stored.to_string())
        .await
        .unwrap();
    let store = testbed.store().api_keys();
    let all = store.all().await.unwrap();
    let read = all[0].as_ref().unwrap();
    assert_eq!(read.key.limits.max_jobs, Some(3));
    let mut limits = read.key.limits;
    limits.max_jobs = Some(6);
    let id: KeyId = "alice-1".parse().unwrap();
    let changed = store.set_limits(&id, limits).await.unwrap().unwrap();
    assert_eq!(changed.key.limits.max_jobs, Some(6));
    let text: String = redis.hget(&keys, "alice-1").await.unwrap();
    let mut expected = stored;
    expected["limits"]["max_jobs"] = json!(6);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    testbed.cleanup().await.unwrap();
}
