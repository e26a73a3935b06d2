//! Creating, listing and revoking keys.

use reqwest::{Method, StatusCode};
use warmq_cli::client::Error;
use warmq_testkit::Testbed;
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::access::Limits;

use super::{ROOT, call, client, key, keyed, submit, wished};

#[tokio::test]
async fn the_first_key_must_have_scope_admin_and_enables_authentication() {
    let mut system = System::with_config("[apps.'bench/timed']").await;
    // Without keys, no authentication, whatever is sent.
    submit(&system, "any", TIMED).await.job_id();
    let anyone = client(system.router.url(), "any");
    let user = wished("user", &["submit:*", "read"], Limits::default());
    let refused = anyone.create_key(&user).await.unwrap_err().to_string();
    assert!(
        refused.contains("first key must have scope admin"),
        "{refused}"
    );
    assert!(anyone.keys().await.unwrap().is_empty());
    let admin = wished("root", &["admin"], Limits::default());
    let root_key = anyone.create_key(&admin).await.unwrap();
    let reported = anyone.keys().await.unwrap_err();
    assert!(
        matches!(reported, Error::Refused { status: 401, .. }),
        "{reported}"
    );
    let root = client(system.router.url(), &root_key.credentials);
    let user_key = root.create_key(&user).await.unwrap();
    let refused = root
        .revoke_key(&root_key.key.id)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("last one with scope admin"), "{refused}");
    root.revoke_key(&user_key.key.id).await.unwrap();
    root.revoke_key(&root_key.key.id).await.unwrap();
    // Without any key left, a running router still requires keys; a new one does not.
    let reported = anyone.keys().await.unwrap_err();
    assert!(
        matches!(reported, Error::Refused { status: 401, .. }),
        "{reported}"
    );
    system.replace_router(&[]).await;
    submit(&system, "any", TIMED).await.job_id();
    system.cleanup().await;
}

#[tokio::test]
async fn invalid_key_requests_are_named_and_web_pages_cannot_create_keys() {
    let system = System::start().await;
    let json_body = [("content-type", "application/json")];
    let create = async |headers: &[(&str, &str)], body: &str| {
        system
            .http(Method::POST, "/v1/keys", headers, body.to_owned())
            .await
    };
    for (body, named) in [
        (
            r#"{"name": "x", "scopes": ["root"]}"#,
            "'root' is not a scope",
        ),
        (
            r#"{"name": "X", "scopes": ["admin"]}"#,
            "'X' is not a key's name",
        ),
        (r#"{"name": "x", "scopes": []}"#, "scopes"),
        (
            r#"{"name": "x", "scopes": ["admin"], "limits": {"rate": {"per_second": 0}}}"#,
            "not 0",
        ),
        (
            r#"{"name": "x", "scopes": ["admin"], "limits": {"weight": 1000.5}}"#,
            "from 0.01 to 1000, not 1000.5",
        ),
        (
            r#"{"name": "x", "scopes": ["admin"], "limits": {"max_running": 0}}"#,
            "at least 1, not 0",
        ),
        (r#"{"name": "x"}"#, "scopes"),
    ] {
        let refused = create(&json_body, body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let detail = refused.body["detail"][0].to_string();
        assert!(detail.contains(named), "{detail}");
    }
    assert_eq!(
        create(&json_body, "{").await.status,
        StatusCode::BAD_REQUEST
    );
    // What a page can send without a preflight.
    let page = [
        ("content-type", "text/plain"),
        ("origin", "https://example.com"),
    ];
    for (headers, status) in [
        (&page[..], StatusCode::FORBIDDEN),
        (&page[..1], StatusCode::BAD_REQUEST),
    ] {
        let refused = create(headers, r#"{"name": "x", "scopes": ["admin"]}"#).await;
        assert_eq!(refused.status, status);
    }
    assert!(
        client(system.router.url(), "any")
            .keys()
            .await
            .unwrap()
            .is_empty()
    );
    system.cleanup().await;
}

/// Returns all that Redis holds of a namespace.
async fn redis_of(testbed: &Testbed) -> String {
    let client = redis::Client::open(testbed.redis_url().expose()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}:*", testbed.namespace());
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(pattern)
        .query_async(&mut redis)
        .await
        .unwrap();
    let mut found = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(&mut redis)
            .await
            .unwrap();
        let mut command = match kind.as_str() {
            "string" => redis::cmd("GET"),
            "hash" => redis::cmd("HGETALL"),
            "set" => redis::cmd("SMEMBERS"),
            "list" => redis::cmd("LRANGE"),
            "zset" => redis::cmd("ZRANGE"),
            other => panic!("{key} is a {other}"),
        };
        command.arg(&key);
        if matches!(kind.as_str(), "list" | "zset") {
            command.arg(0).arg(-1);
        }
        let value: redis::Value = command.query_async(&mut redis).await.unwrap();
        found.push(format!("{key}: {value:?}"));
    }
    found.join("\n")
}

#[tokio::test]
async fn key_secrets_are_not_stored_listed_or_logged() {
    let system = keyed().await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    submit(&system, &alice, TIMED).await.job_id();
    let wrong = format!("{alice}0");
    assert_eq!(
        submit(&system, &wrong, TIMED).await.status,
        StatusCode::UNAUTHORIZED
    );
    let listed = call(&system, ROOT, Method::GET, "/v1/keys").await;
    let redis = redis_of(&system.testbed).await;
    let log = std::fs::read_to_string(system.router.log()).unwrap();
    let list = String::from_utf8(listed.bytes).unwrap();
    let (alice_id, secret) = alice.split_once(':').unwrap();
    let (_, root_secret) = ROOT.split_once(':').unwrap();
    for (place, text) in [("Redis", &redis), ("the list", &list), ("the log", &log)] {
        assert!(text.contains(alice_id), "{place} is looked at");
        for secret in [secret, root_secret] {
            assert!(!text.contains(secret), "a secret is in {place}");
        }
    }
    let hash = list.contains("sha256");
    assert!(!hash, "{list}");
    system.cleanup().await;
}
