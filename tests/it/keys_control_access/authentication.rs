//! Which key allows what.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use warmq_cli::client::{Client, Error};
use warmq_testkit::{Proxy, Testbed, eventually};
use warmq_tests::system::TIMED;
use warmq_types::access::Limits;
use warmq_types::ids::JobId;

use super::{REVOKED_WITHIN, ROOT, call, calls, client, for_operators, key, keyed, submit, wished};

#[tokio::test]
async fn every_call_requires_a_key_and_names_the_header() {
    let system = keyed().await;
    let _worker = system.timed_worker("a").await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    let (alice_id, _) = alice.split_once(':').unwrap();
    let guess = format!("Key {alice_id}:{}", "0".repeat(64));
    let root_guess = format!("Key root:{}", "0".repeat(64));
    let strangers = [
        None,
        Some("Key any"),
        Some("Basic YTpi"),
        Some(guess.as_str()),
        Some(root_guess.as_str()),
    ];
    for (method, path) in calls(&JobId::generate().to_string()) {
        for authorization in strangers {
            let headers = authorization.map(|value| ("authorization", value));
            let headers = headers.as_slice();
            let answer = system.http(method.clone(), &path, headers, "{}").await;
            let what = format!("{method} {path} {authorization:?}");
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
            assert_eq!(answer.body["error_type"], "unauthorized", "{what}");
            assert!(answer.body["detail"].is_string(), "{what}");
            assert_eq!(answer.headers["www-authenticate"], "Key realm=\"warmq\"");
        }
        let answer = call(&system, ROOT, method.clone(), &path).await;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        assert!(!refused.contains(&answer.status), "{method} {path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(system.get(path).await.status, StatusCode::OK, "{path}");
    }
    // A page can read the reason of a refusal.
    let page = [("origin", "https://example.com")];
    let refused = system.post(TIMED, &page, "{}").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
    system.cleanup().await;
}

#[tokio::test]
async fn a_key_allows_its_scopes_and_a_refusal_names_the_missing_scope() {
    let system = keyed().await;
    let user = key(&system, "user", &["submit:bench/*", "read"]).await;
    submit(&system, &user, TIMED).await.job_id();
    // `Bearer` is equivalent.
    let bearer = format!("Bearer {user}");
    system
        .post(TIMED, &[("authorization", &bearer)], "{}")
        .await
        .job_id();
    assert_eq!(
        submit(&system, &user, "bench/none").await.status,
        StatusCode::NOT_FOUND
    );
    let proxied = |app: &str| {
        let (target, user) = (
            format!("https://queue.fal.run/{app}"),
            format!("Key {user}"),
        );
        let system = &system;
        async move {
            let headers = [
                ("authorization", user.as_str()),
                ("x-fal-target-url", &target),
            ];
            system
                .http(Method::POST, "/api/fal/proxy", &headers, "{}")
                .await
        }
    };
    proxied(TIMED).await.job_id();
    // The response does not reveal whether the app exists.
    for app in ["other/app", "other/none"] {
        for refused in [
            submit(&system, &user, app).await,
            call(&system, &user, Method::POST, &format!("/run/{app}")).await,
            call(&system, &user, Method::POST, &format!("/run/{app}/stream")).await,
            proxied(app).await,
        ] {
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{app}");
            assert_eq!(refused.body["error_type"], "forbidden");
            let detail = refused.body["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("submit:{app}")), "{detail}");
        }
    }
    let apps = call(&system, &user, Method::GET, "/v1/apps").await;
    let names: Vec<&Value> = (apps.body["apps"].as_array().unwrap().iter())
        .map(|app| &app["app"])
        .collect();
    assert_eq!(names, [TIMED]);
    for (method, path) in for_operators(&JobId::generate().to_string()) {
        let refused = call(&system, &user, method.clone(), &path).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let watcher = key(&system, "watcher", &["watch"]).await;
    for path in ["/metrics", "/v1/runners", "/v1/apps"] {
        let answer = call(&system, &watcher, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for path in ["/v1/dead", "/v1/keys"] {
        let answer = call(&system, &watcher, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_new_key_works_at_once_and_a_revoked_one_stops_within_seconds_on_every_router() {
    let system = keyed().await;
    let other = system.testbed.router(&[]).await.unwrap();
    let alice = key(&system, "alice", &["submit:*"]).await;
    let [here, there] = [system.router.url(), other.url()].map(|url| client(url, &alice));
    there.apps().await.unwrap();
    here.apps().await.unwrap();
    let root = client(system.router.url(), ROOT);
    let listed = root.keys().await.unwrap();
    assert_eq!(listed.len(), 1);
    root.revoke_key(&listed[0].id).await.unwrap();
    let unauthorized = |answer: Result<_, Error>| {
        matches!(answer, Err(Error::Refused { status: 401, .. })).then_some(())
    };
    unauthorized(here.apps().await).expect("refused here at once");
    eventually("refused there", REVOKED_WITHIN, async || {
        unauthorized(there.apps().await)
    })
    .await
    .unwrap();
    assert!(
        root.keys().await.unwrap().is_empty(),
        "it is listed no more"
    );
    let again = root.revoke_key(&listed[0].id).await.unwrap_err();
    assert!(again.to_string().contains("404"), "{again}");
    system.cleanup().await;
}

#[tokio::test]
async fn without_keys_a_router_listens_only_on_loopback_unless_allowed() {
    let testbed = Testbed::builder().start().await.unwrap();
    let refused = testbed
        .router_at("0.0.0.0:0", &[])
        .await
        .unwrap_err()
        .to_string();
    for way in [
        "exit status: 64",
        "0.0.0.0",
        "--admin-key",
        "--allow-anonymous",
    ] {
        assert!(refused.contains(way), "{refused}");
    }
    let apps =
        async |url: &str, key: Option<&str>| Client::new(url, key).unwrap().apps().await.map(drop);
    let open = testbed
        .router_at("0.0.0.0:0", &["--allow-anonymous"])
        .await
        .unwrap();
    apps(open.url(), None).await.unwrap();
    drop(open);
    let rooted = testbed
        .router_at("0.0.0.0:0", &["--admin-key", ROOT])
        .await
        .unwrap();
    apps(rooted.url(), None).await.unwrap_err();
    apps(rooted.url(), Some(ROOT)).await.unwrap();
    // From now on Redis has a key, which is enough.
    let root = client(rooted.url(), ROOT);
    let user = wished("user", &["submit:*"], Limits::default());
    let user = root.create_key(&user).await.unwrap().credentials;
    drop(rooted);
    for args in [&[] as &[&str], &["--allow-anonymous"]] {
        let keyed = testbed.router_at("0.0.0.0:0", args).await.unwrap();
        apps(keyed.url(), None).await.unwrap_err();
        apps(keyed.url(), Some(&user)).await.unwrap();
    }
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn without_redis_cached_keys_work_and_others_are_refused() {
    let system = keyed().await;
    let proxy = Proxy::of(system.testbed.redis_url()).await.unwrap();
    let url = proxy.url();
    let router = system
        .testbed
        .router(&["--redis-url", url.expose()])
        .await
        .unwrap();
    let alice = key(&system, "alice", &["submit:*", "watch"]).await;
    let status = async |key: &str| {
        let request = reqwest::Client::new().get(format!("{}/metrics", router.url()));
        let request = request.header("authorization", format!("Key {key}"));
        request.send().await.unwrap().status()
    };
    assert_eq!(status(&alice).await, StatusCode::OK);
    proxy.shut();
    assert_eq!(status(&alice).await, StatusCode::OK);
    assert_eq!(status(ROOT).await, StatusCode::OK);
    assert_eq!(status(&format!("{alice}0")).await, StatusCode::UNAUTHORIZED);
    // Another router may have created a key just now.
    assert_eq!(status("bob-1:s").await, StatusCode::SERVICE_UNAVAILABLE);
    system.cleanup().await;
}
