//! Changing the limits of a key.

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use warmq_router::access::Keyring;
use warmq_testkit::eventually;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{HttpResponse, System};
use warmq_types::access::{AdminKey, Limits, MaxRunning, Rate, Weight};
use warmq_types::ids::KeyId;

use super::{ROOT, client, key, keyed, limited, submit, wished};

/// Limits of every kind.
fn all_limits() -> Limits {
    Limits {
        rate: Some(Rate::new(1000.0, None).unwrap()),
        max_jobs: Some(2),
        max_running: Some(MaxRunning::new(3).unwrap()),
        weight: Some(Weight::new(2.5).unwrap()),
    }
}

fn id_of(credentials: &str) -> KeyId {
    let (id, _) = credentials.split_once(':').unwrap();
    id.parse().unwrap()
}

/// Changes a key as the holder of another one.
async fn change(system: &System, by: &str, id: &str, body: &str) -> HttpResponse {
    let authorization = format!("Key {by}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let path = format!("/v1/keys/{id}");
    system
        .http(Method::PATCH, &path, &headers, body.to_owned())
        .await
}

#[tokio::test]
async fn changed_limits_apply_on_every_router_and_the_secret_remains() {
    let system = keyed().await;
    let other = system.testbed.router(&[]).await.unwrap();
    let one = Limits {
        max_jobs: Some(1),
        ..Limits::default()
    };
    let alice = limited(&system, "alice", &["submit:*", "read"], one).await;
    let id = id_of(&alice);
    submit(&system, &alice, TIMED).await.job_id();
    let full = submit(&system, &alice, TIMED).await;
    assert_eq!(full.body["error_type"], "too_many_jobs");
    // The other router has the key in its copy.
    client(other.url(), &alice).apps().await.unwrap();

    let limits = json!({
        "rate": {"per_second": 1000.0, "burst": 1000},
        "max_jobs": 2, "max_running": 3, "weight": 2.5
    });
    let body = json!({"limits": limits}).to_string();
    let changed = change(&system, ROOT, id.as_str(), &body).await;
    assert_eq!(changed.status, StatusCode::OK, "{:?}", changed.body);
    assert_eq!(changed.body["limits"], limits);
    assert_eq!(changed.body["id"], id.as_str());
    assert_eq!(changed.body["scopes"], json!(["submit:*", "read"]));
    for url in [system.router.url(), other.url()] {
        let listed = client(url, ROOT).keys().await.unwrap();
        assert_eq!(listed[0].limits, all_limits());
    }
    // At once in the router that changed them.
    submit(&system, &alice, TIMED).await.job_id();
    let full = submit(&system, &alice, TIMED).await;
    assert_eq!(full.body["error_type"], "too_many_jobs");

    // Limits that are not mentioned are removed, and the other router follows.
    let none = change(&system, ROOT, id.as_str(), r#"{"limits": {}}"#).await;
    assert_eq!(none.body["limits"], json!({}));
    let http = reqwest::Client::new();
    eventually("the other router accepts a job", TIMEOUT, async || {
        let request = http.post(format!("{}/queue/{TIMED}", other.url()));
        let request = request.header("authorization", format!("Key {alice}"));
        let answer = request.body("{}").send().await.unwrap();
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    let log = std::fs::read_to_string(system.router.log()).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("changed the limits"));
    let lines: Vec<&str> = lines.collect();
    let is_named = |line: &&str| line.contains(id.as_str()) && line.contains("root");
    assert!(lines.len() == 2 && lines.iter().all(is_named), "{lines:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_raised_rate_ends_the_wait_of_the_lower_one() {
    let system = keyed().await;
    let rate = |per_second| Limits {
        rate: Some(Rate::new(per_second, Some(1)).unwrap()),
        ..Limits::default()
    };
    let alice = limited(&system, "alice", &["submit:*"], rate(0.0001)).await;
    submit(&system, &alice, TIMED).await.job_id();
    let refused = submit(&system, &alice, TIMED).await;
    assert_eq!(refused.body["error_type"], "rate_limited");
    let wait_s: u64 = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(wait_s > 9_000, "{wait_s}");
    let root = client(system.router.url(), ROOT);
    root.set_limits(&id_of(&alice), rate(100.0)).await.unwrap();
    eventually("a submission passes", TIMEOUT, async || {
        let answer = submit(&system, &alice, TIMED).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}

#[tokio::test]
async fn invalid_changes_of_a_key_are_named_and_change_nothing() {
    let system = keyed().await;
    let alice = limited(&system, "alice", &["submit:*", "read"], all_limits()).await;
    let id = id_of(&alice);
    for (body, named) in [
        ("{}", "limits"),
        (r#"{"limits": {}, "scopes": ["admin"]}"#, "scopes"),
        (r#"{"limits": {"max_job": 1}}"#, "max_job"),
        (r#"{"limits": {"weight": 0}}"#, "from 0.01 to 1000, not 0"),
        (
            r#"{"limits": {"weight": 1e9}}"#,
            "from 0.01 to 1000, not 1000000000",
        ),
        (r#"{"limits": {"max_running": 0}}"#, "at least 1, not 0"),
    ] {
        let refused = change(&system, ROOT, id.as_str(), body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let detail = refused.body["detail"][0].to_string();
        assert!(detail.contains(named), "{detail}");
    }
    let malformed = change(&system, ROOT, id.as_str(), "{").await;
    assert_eq!(malformed.status, StatusCode::BAD_REQUEST);
    // The key of the settings is not among those that can be changed.
    for unknown in ["root", "bob-1", "No%20id"] {
        let missing = change(&system, ROOT, unknown, r#"{"limits": {}}"#).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{unknown}");
    }
    let own = change(&system, &alice, id.as_str(), r#"{"limits": {}}"#).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN);
    let listed = client(system.router.url(), ROOT).keys().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].limits, all_limits());
    system.cleanup().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_changes_does_not_return() {
    let system = keyed().await;
    let root = client(system.router.url(), ROOT);
    let keys = join_all((0..20).map(|_| key(&system, "brief", &["read"]))).await;
    let races = keys.iter().map(async |credentials| {
        let id = id_of(credentials);
        let changes = join_all((0..3).map(|_| root.set_limits(&id, all_limits())));
        let (_, revoked) = tokio::join!(changes, root.revoke_key(&id));
        revoked.unwrap();
    });
    join_all(races).await;
    assert_eq!(root.keys().await.unwrap(), []);
    let late = root.set_limits(&id_of(&keys[0]), all_limits()).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("does not exist"), "{late}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_keyring_has_the_limits_of_every_key_in_memory() {
    let system = keyed().await;
    let root = client(system.router.url(), ROOT);
    let admin: AdminKey = ROOT.parse().unwrap();
    let first = root
        .create_key(&wished("first", &["read"], all_limits()))
        .await
        .unwrap();
    let store = system.testbed.store().clone();
    let keyring = Keyring::open(store, Some(admin)).await.unwrap();
    assert_eq!(keyring.limits_of(&first.key.id), all_limits());
    let root_id = "root".parse().unwrap();
    assert_eq!(keyring.limits_of(&root_id), Limits::default());

    // A key that is created later has the default limits until the copy is read again.
    let second = root
        .create_key(&wished("second", &["read"], all_limits()))
        .await
        .unwrap();
    assert_eq!(keyring.limits_of(&second.key.id), Limits::default());
    let (shutdown, id) = (CancellationToken::new(), &second.key.id);
    let running = tokio::spawn(keyring.clone().run(shutdown.clone()));
    eventually("the copy has the second key", TIMEOUT, async || {
        (keyring.limits_of(id) == all_limits()).then_some(())
    })
    .await
    .unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();

    // Its own changes are in it at once.
    let changed = keyring.set_limits(id, Limits::default()).await.unwrap();
    assert_eq!(changed.unwrap().limits, Limits::default());
    assert_eq!(keyring.limits_of(id), Limits::default());
    keyring.revoke(&first.key.id).await.unwrap();
    assert_eq!(keyring.limits_of(&first.key.id), Limits::default());
    system.cleanup().await;
}

#[tokio::test]
async fn the_limits_of_keys_are_documented_with_their_bounds() {
    let system = keyed().await;
    let document = system.get("/openapi.json").await.body;
    let limits = &document["components"]["schemas"]["Limits"]["properties"];
    let bounds = |field: &str, bound: &str| limits[field][bound].as_f64();
    assert_eq!(bounds("weight", "minimum"), Some(0.01), "{limits}");
    assert_eq!(bounds("weight", "maximum"), Some(1000.0), "{limits}");
    assert_eq!(bounds("max_running", "minimum"), Some(1.0), "{limits}");
    let change = &document["paths"]["/v1/keys/{id}"]["patch"];
    assert_eq!(change["operationId"], "change_key");
    assert_ne!(change["responses"]["404"], Value::Null);
    system.cleanup().await;
}
