//! Once there are keys, everybody is asked for one: it opens what it is made for and nothing else, and jobs of others are as
//! unknown as jobs that there are not.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use warmq_cli::client::{Client, Error};
use warmq_cluster::{Cluster, Proxy, eventually};
use warmq_common::access::{Limits, NewKey, Rate};
use warmq_common::ids::JobId;
use warmq_common::state::JobState;
use warmq_tests::amqp::with_hint;
use warmq_tests::stage::{SOON, TIMED};
use warmq_tests::{AmqpUser, Answer, Stage};

/// An admin key by setting.
const ROOT: &str = "root:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// How soon a revoked key is refused everywhere.
const REVOKED_WITHIN: Duration = Duration::from_secs(4);

/// A router that asks for keys.
async fn keyed() -> Stage {
    let toml = format!("admin_key = '{ROOT}'\n[apps.'bench/timed']\n[apps.'other/app']");
    Stage::with_config(&toml).await
}

fn client(url: &str, key: &str) -> Client {
    Client::new(url, Some(key)).unwrap()
}

fn wished(name: &str, scopes: &[&str], limits: Limits) -> NewKey {
    NewKey {
        name: name.parse().unwrap(),
        scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        limits,
    }
}

/// A key made by the admin: `id:secret`.
async fn limited(stage: &Stage, name: &str, scopes: &[&str], limits: Limits) -> String {
    let root = client(stage.router.url(), ROOT);
    let made = root
        .create_key(&wished(name, scopes, limits))
        .await
        .unwrap();
    made.credentials
}

async fn key(stage: &Stage, name: &str, scopes: &[&str]) -> String {
    limited(stage, name, scopes, Limits::default()).await
}

/// A request with a key.
async fn call(stage: &Stage, key: &str, method: Method, path: &str) -> Answer {
    let authorization = format!("Key {key}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    stage.http(method, path, &headers, r#"{"run_ms": 1}"#).await
}

async fn submit(stage: &Stage, key: &str, app: &str) -> Answer {
    call(stage, key, Method::POST, &format!("/queue/{app}")).await
}

fn id(answer: &Answer) -> JobId {
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    answer.body["request_id"].as_str().unwrap().parse().unwrap()
}

/// Everything that there is behind the door, of some job.
fn calls(job: &str) -> Vec<(Method, String)> {
    let own = of_a_job(job).into_iter();
    let others = [
        (Method::POST, format!("/queue/{TIMED}")),
        (Method::POST, format!("/queue/{TIMED}/some/path")),
        (Method::POST, format!("/run/{TIMED}")),
        (Method::POST, format!("/run/{TIMED}/stream")),
        (Method::POST, "/api/fal/proxy".to_owned()),
        (Method::GET, "/v1/apps".to_owned()),
    ];
    own.chain(others).chain(for_operators(job)).collect()
}

/// All ways to ask for a job.
fn of_a_job(job: &str) -> Vec<(Method, String)> {
    let queue = format!("/queue/{TIMED}/requests/{job}");
    vec![
        (Method::GET, queue.clone()),
        (Method::GET, format!("{queue}/response")),
        (Method::GET, format!("{queue}/status?logs=1")),
        (Method::GET, format!("{queue}/status/stream")),
        (Method::PUT, format!("{queue}/cancel")),
        (Method::GET, format!("/v1/jobs/{job}")),
        (Method::DELETE, format!("/v1/jobs/{job}")),
    ]
}

fn for_operators(job: &str) -> Vec<(Method, String)> {
    vec![
        (Method::GET, "/metrics".to_owned()),
        (Method::GET, "/v1/runners".to_owned()),
        (Method::GET, "/v1/dead".to_owned()),
        (Method::GET, format!("/v1/dead/{TIMED}")),
        (Method::GET, format!("/v1/dead/{TIMED}/{job}")),
        (Method::DELETE, format!("/v1/dead/{TIMED}/{job}")),
        (Method::POST, format!("/v1/dead/{TIMED}/{job}/redrive")),
        (Method::GET, "/v1/keys".to_owned()),
        (Method::POST, "/v1/keys".to_owned()),
        (Method::DELETE, "/v1/keys/alice-1".to_owned()),
    ]
}

#[tokio::test]
async fn every_call_asks_for_a_key_and_says_how_to_send_it() {
    let stage = keyed().await;
    let _worker = stage.timed("a").await;
    let alice = key(&stage, "alice", &["submit:*", "read"]).await;
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
            let answer = stage.http(method.clone(), &path, headers, "{}").await;
            let what = format!("{method} {path} {authorization:?}");
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
            assert_eq!(answer.body["error_type"], "unauthorized", "{what}");
            assert!(answer.body["detail"].is_string(), "{what}");
            assert_eq!(answer.headers["www-authenticate"], "Key realm=\"warmq\"");
        }
        let answer = call(&stage, ROOT, method.clone(), &path).await;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        assert!(!refused.contains(&answer.status), "{method} {path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(stage.get(path).await.status, StatusCode::OK, "{path}");
    }
    // A page can read why it is refused.
    let page = [("origin", "https://example.com")];
    let refused = stage.post(TIMED, &page, "{}").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_key_opens_what_it_is_made_for_and_a_refusal_names_the_scope_that_is_missing() {
    let stage = keyed().await;
    let user = key(&stage, "user", &["submit:bench/*", "read"]).await;
    id(&submit(&stage, &user, TIMED).await);
    // Bearer is as good.
    let bearer = format!("Bearer {user}");
    id(&stage.post(TIMED, &[("authorization", &bearer)], "{}").await);
    assert_eq!(
        submit(&stage, &user, "bench/none").await.status,
        StatusCode::NOT_FOUND
    );
    let proxied = |app: &str| {
        let (target, user) = (
            format!("https://queue.fal.run/{app}"),
            format!("Key {user}"),
        );
        let stage = &stage;
        async move {
            let headers = [
                ("authorization", user.as_str()),
                ("x-fal-target-url", &target),
            ];
            stage
                .http(Method::POST, "/api/fal/proxy", &headers, "{}")
                .await
        }
    };
    id(&proxied(TIMED).await);
    // Whether there is such an app is not told.
    for app in ["other/app", "other/none"] {
        for refused in [
            submit(&stage, &user, app).await,
            call(&stage, &user, Method::POST, &format!("/run/{app}")).await,
            call(&stage, &user, Method::POST, &format!("/run/{app}/stream")).await,
            proxied(app).await,
        ] {
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{app}");
            assert_eq!(refused.body["error_type"], "forbidden");
            let detail = refused.body["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("submit:{app}")), "{detail}");
        }
    }
    let apps = call(&stage, &user, Method::GET, "/v1/apps").await;
    let names: Vec<&Value> = (apps.body["apps"].as_array().unwrap().iter())
        .map(|app| &app["app"])
        .collect();
    assert_eq!(names, [TIMED]);
    for (method, path) in for_operators(&JobId::generate().to_string()) {
        let refused = call(&stage, &user, method.clone(), &path).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let watcher = key(&stage, "watcher", &["watch"]).await;
    for path in ["/metrics", "/v1/runners", "/v1/apps"] {
        let answer = call(&stage, &watcher, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for path in ["/v1/dead", "/v1/keys"] {
        let answer = call(&stage, &watcher, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    stage.clean_up().await;
}

/// Status and body, without the job's id.
fn anonymous(answer: &Answer, job: &str) -> (StatusCode, String) {
    let body = String::from_utf8_lossy(&answer.bytes).replace(job, "ID");
    (answer.status, body)
}

#[tokio::test]
async fn a_job_of_somebody_else_is_as_unknown_as_one_that_there_is_not() {
    let stage = keyed().await;
    let alice = key(&stage, "alice", &["submit:*", "read"]).await;
    let bob = key(&stage, "bob", &["submit:*", "read", "watch"]).await;
    let blind = key(&stage, "blind", &["submit:*"]).await;
    let hers = id(&submit(&stage, &alice, TIMED).await);
    let (job, none) = (hers.to_string(), JobId::generate().to_string());
    let compared = of_a_job(&job).into_iter().zip(of_a_job(&none));
    for ((method, path), (_, nowhere)) in compared {
        let foreign = call(&stage, &bob, method.clone(), &path).await;
        let missing = call(&stage, &bob, method.clone(), &nowhere).await;
        let foreign = anonymous(&foreign, &job);
        assert_eq!(foreign.0, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(foreign, anonymous(&missing, &none), "{method} {path}");
        let target = path.strip_prefix("/queue");
        if let Some(target) = target.map(|path| format!("https://queue.fal.run{path}")) {
            let authorization = format!("Key {bob}");
            let headers = [
                ("authorization", authorization.as_str()),
                ("x-fal-target-url", &target),
            ];
            let proxied = stage
                .http(method.clone(), "/api/fal/proxy", &headers, "")
                .await;
            assert_eq!(anonymous(&proxied, &job), foreign, "{target}");
        }
        // Whoever may look at no job is told so, of any.
        for path in [&path, &nowhere] {
            let refused = call(&stage, &blind, method.clone(), path).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    // Nobody cancelled it meanwhile: its owner sees it wait, and so does an admin.
    let path = format!("/v1/jobs/{job}");
    for key in [alice.as_str(), ROOT] {
        let seen = call(&stage, key, Method::GET, &path).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(seen.body["state"], "queued");
        assert_eq!(seen.body["owner"], alice.split_once(':').unwrap().0);
    }
    let cancelled = call(&stage, &alice, Method::DELETE, &path).await;
    assert_eq!(cancelled.body["state"], "cancelled");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_job_that_came_by_amqp_has_no_owner_and_is_for_admins() {
    let stage = keyed().await;
    let _worker = stage.timed("a").await;
    let user = AmqpUser::connect(&stage.cluster).await;
    let job = JobId::generate();
    let properties = with_hint("m").with_message_id(job.to_string().into());
    user.submit(TIMED, r#"{"run_ms": 1}"#, properties).await;
    stage.stands(job, JobState::Succeeded).await;
    let alice = key(&stage, "alice", &["submit:*", "read", "watch"]).await;
    let path = format!("/queue/{TIMED}/requests/{job}");
    let foreign = call(&stage, &alice, Method::GET, &path).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let seen = call(&stage, ROOT, Method::GET, &path).await;
    assert_eq!(seen.status, StatusCode::OK);
    stage.clean_up().await;
}

#[tokio::test]
async fn two_owners_may_give_two_jobs_the_same_idempotency_key() {
    let stage = keyed().await;
    let alice = key(&stage, "alice", &["submit:*", "read"]).await;
    let bob = key(&stage, "bob", &["submit:*", "read"]).await;
    let submit = |key: &str| {
        let (stage, key) = (&stage, format!("Key {key}"));
        async move {
            let headers = [
                ("authorization", key.as_str()),
                ("idempotency-key", "order 7"),
            ];
            id(&stage.post(TIMED, &headers, "{}").await)
        }
    };
    let hers = submit(&alice).await;
    let his = submit(&bob).await;
    assert_ne!(hers, his);
    assert_eq!(submit(&alice).await, hers);
    assert_eq!(submit(&bob).await, his);
    let owner = stage.job(his).await.spec.owner.unwrap();
    assert!(bob.starts_with(owner.as_str()));
    stage.clean_up().await;
}

#[tokio::test]
async fn a_new_key_opens_every_router_at_once_and_a_revoked_one_none_within_seconds() {
    let stage = keyed().await;
    let other = stage.cluster.router(&[]).await.unwrap();
    let alice = key(&stage, "alice", &["submit:*"]).await;
    let [here, there] = [stage.router.url(), other.url()].map(|url| client(url, &alice));
    there.apps().await.unwrap();
    here.apps().await.unwrap();
    let root = client(stage.router.url(), ROOT);
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
    stage.clean_up().await;
}

#[tokio::test]
async fn who_submits_too_often_is_told_when_to_come_again_whichever_router_it_asks() {
    let stage = keyed().await;
    let other = stage.cluster.router(&[]).await.unwrap();
    let rate = |per_second, burst| Limits {
        rate: Some(Rate::new(per_second, burst).unwrap()),
        max_jobs: None,
    };
    let hasty = limited(&stage, "hasty", &["submit:*"], rate(0.2, Some(2))).await;
    let slow = limited(&stage, "slow", &["submit:*"], rate(0.01, None)).await;
    let http = reqwest::Client::new();
    let submit = async |url: &str, key: &str| {
        let request = http.post(format!("{url}/queue/{TIMED}")).body("{}");
        request
            .header("authorization", format!("Key {key}"))
            .send()
            .await
            .unwrap()
    };
    let retry_after = |answer: &reqwest::Response| {
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["x-fal-error-type"], "rate_limited");
        let header = answer.headers()["retry-after"].to_str().unwrap();
        header.parse::<u64>().unwrap()
    };
    let began = Instant::now();
    let [here, there] = [stage.router.url(), other.url()];
    assert_eq!(submit(here, &hasty).await.status(), StatusCode::OK);
    assert_eq!(submit(there, &hasty).await.status(), StatusCode::OK);
    let wait_s = retry_after(&submit(here, &hasty).await);
    assert!((1..=5).contains(&wait_s), "{wait_s}");
    // A refusal costs nothing: one more may pass 5 s after the first one did, and not before.
    eventually("it may submit again", SOON, async || {
        (submit(there, &hasty).await.status() == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(4900),
        "{:?}",
        began.elapsed()
    );
    // Others are not held up by it.
    assert_eq!(submit(here, &slow).await.status(), StatusCode::OK);
    let wait_s = retry_after(&submit(here, &slow).await);
    assert!((90..=100).contains(&wait_s), "{wait_s}");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_key_has_no_more_jobs_at_a_time_than_it_may() {
    let stage = keyed().await;
    let bound = |jobs| Limits {
        rate: None,
        max_jobs: Some(jobs),
    };
    let scopes = ["submit:*", "read"];
    let many = limited(&stage, "many", &scopes, bound(7)).await;
    // Nobody serves the apps: whatever is accepted waits.
    let answers = join_all((0..50).map(|_| submit(&stage, &many, TIMED))).await;
    let (accepted, refused): (Vec<Answer>, Vec<Answer>) =
        (answers.into_iter()).partition(|answer| answer.status == StatusCode::OK);
    assert_eq!(accepted.len(), 7);
    for answer in &refused {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.body["error_type"], "too_many_jobs");
        assert!(answer.headers.contains_key("retry-after"));
    }
    // What waits for one app counts for another.
    let elsewhere = submit(&stage, &many, "other/app").await;
    assert_eq!(elsewhere.body["error_type"], "too_many_jobs");
    // Others are not held up by it.
    let few = limited(&stage, "few", &scopes, bound(2)).await;
    let first = id(&submit(&stage, &few, "other/app").await);
    id(&submit(&stage, &few, TIMED).await);
    let full = submit(&stage, &few, TIMED).await;
    assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
    let path = format!("/v1/jobs/{first}");
    let cancelled = call(&stage, &few, Method::DELETE, &path).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    id(&submit(&stage, &few, TIMED).await);
    // A job that ran makes room, too.
    let _worker = stage.timed("a").await;
    for answer in &accepted {
        stage.succeeded(id(answer)).await;
    }
    id(&submit(&stage, &many, TIMED).await);
    stage.clean_up().await;
}

/// A pipeline whose steps are jobs of [`TIMED`].
const PIPELINE: &str = r#"
    [routes."acme/pipeline"]
    kind = "sequence"
    steps = [{ name = "one", app = "bench/timed" }, { name = "two", app = "bench/timed" }]
"#;

#[tokio::test]
async fn a_flow_is_one_job_of_its_key_and_its_steps_are_its_owners_alone() {
    let toml = format!("admin_key = '{ROOT}'\n[apps.'bench/timed']\n{PIPELINE}");
    let stage = Stage::with_config(&toml).await;
    let one_at_a_time = Limits {
        rate: None,
        max_jobs: Some(1),
    };
    // The key need not be one for the apps of the steps.
    let mine = limited(&stage, "mine", &["submit:acme/*", "read"], one_at_a_time).await;
    let other = key(&stage, "other", &["submit:*", "read"]).await;
    assert_eq!(
        submit(&stage, &mine, TIMED).await.status,
        StatusCode::FORBIDDEN
    );
    let flow = id(&submit(&stage, &mine, "acme/pipeline").await);
    let first = stage
        .until("its first step waits", SOON, async || {
            let step = stage.job(flow).await.flow?.steps.first()?.job;
            stage.cluster.store().job(step).await.unwrap()
        })
        .await;
    let full = submit(&stage, &mine, "acme/pipeline").await;
    assert_eq!(full.body["error_type"], "too_many_jobs", "{:?}", full.body);
    for job in [flow, first.spec.id] {
        let path = format!("/v1/jobs/{job}");
        assert_eq!(
            call(&stage, &mine, Method::GET, &path).await.status,
            StatusCode::OK
        );
        for method in [Method::GET, Method::DELETE] {
            let answer = call(&stage, &other, method, &path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        }
    }
    let _worker = stage.timed("a").await;
    stage.succeeded(flow).await;
    // It makes room like any job that ended.
    id(&submit(&stage, &mine, "acme/pipeline").await);
    stage.clean_up().await;
}

#[tokio::test]
async fn the_first_key_must_be_an_admins_and_from_then_on_everybody_is_asked() {
    let mut stage = Stage::with_config("[apps.'bench/timed']").await;
    // Nobody is asked, whatever they say.
    id(&submit(&stage, "any", TIMED).await);
    let anyone = client(stage.router.url(), "any");
    let user = wished("user", &["submit:*", "read"], Limits::default());
    let refused = anyone.create_key(&user).await.unwrap_err().to_string();
    assert!(
        refused.contains("first key must be an admin's"),
        "{refused}"
    );
    assert!(anyone.keys().await.unwrap().is_empty());
    let admin = wished("root", &["admin"], Limits::default());
    let root_key = anyone.create_key(&admin).await.unwrap();
    let told = anyone.keys().await.unwrap_err();
    assert!(matches!(told, Error::Refused { status: 401, .. }), "{told}");
    let root = client(stage.router.url(), &root_key.credentials);
    let user_key = root.create_key(&user).await.unwrap();
    let refused = root
        .revoke_key(&root_key.key.id)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("last key that may manage"), "{refused}");
    root.revoke_key(&user_key.key.id).await.unwrap();
    root.revoke_key(&root_key.key.id).await.unwrap();
    // Without any key left, a router that kept strangers out goes on doing so; a new one starts over.
    let told = anyone.keys().await.unwrap_err();
    assert!(matches!(told, Error::Refused { status: 401, .. }), "{told}");
    stage.replace_router(&[]).await;
    id(&submit(&stage, "any", TIMED).await);
    stage.clean_up().await;
}

#[tokio::test]
async fn what_is_no_key_is_named_and_a_web_page_can_not_make_one() {
    let stage = Stage::start().await;
    let json_body = [("content-type", "application/json")];
    let create = async |headers: &[(&str, &str)], body: &str| {
        stage
            .http(Method::POST, "/v1/keys", headers, body.to_owned())
            .await
    };
    for (body, named) in [
        (r#"{"name": "x", "scopes": ["root"]}"#, "'root' is no scope"),
        (
            r#"{"name": "X", "scopes": ["admin"]}"#,
            "'X' is not a key's name",
        ),
        (r#"{"name": "x", "scopes": []}"#, "scopes"),
        (
            r#"{"name": "x", "scopes": ["admin"], "limits": {"rate": {"per_second": 0}}}"#,
            "not 0",
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
    // What a page may send without asking before.
    let page = [
        ("content-type", "text/plain"),
        ("origin", "https://example.com"),
    ];
    let refused = create(&page, r#"{"name": "x", "scopes": ["admin"]}"#).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(
        client(stage.router.url(), "any")
            .keys()
            .await
            .unwrap()
            .is_empty()
    );
    stage.clean_up().await;
}

/// All that Redis holds of a namespace.
async fn redis_of(cluster: &Cluster) -> String {
    let client = redis::Client::open(cluster.redis_url().expose()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}:*", cluster.namespace());
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
async fn secrets_are_neither_in_redis_nor_in_a_list_nor_in_the_log() {
    let stage = keyed().await;
    let alice = key(&stage, "alice", &["submit:*", "read"]).await;
    id(&submit(&stage, &alice, TIMED).await);
    let wrong = format!("{alice}0");
    assert_eq!(
        submit(&stage, &wrong, TIMED).await.status,
        StatusCode::UNAUTHORIZED
    );
    let listed = call(&stage, ROOT, Method::GET, "/v1/keys").await;
    let redis = redis_of(&stage.cluster).await;
    let log = std::fs::read_to_string(stage.router.log()).unwrap();
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
    stage.clean_up().await;
}

#[tokio::test]
async fn without_keys_only_this_machine_may_be_listened_to_unless_that_is_said() {
    let cluster = Cluster::builder().start().await.unwrap();
    let refused = cluster
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
    let open = cluster
        .router_at("0.0.0.0:0", &["--allow-anonymous"])
        .await
        .unwrap();
    apps(open.url(), None).await.unwrap();
    drop(open);
    let rooted = cluster
        .router_at("0.0.0.0:0", &["--admin-key", ROOT])
        .await
        .unwrap();
    apps(rooted.url(), None).await.unwrap_err();
    apps(rooted.url(), Some(ROOT)).await.unwrap();
    // From now on Redis has one, and that is enough.
    let root = client(rooted.url(), ROOT);
    let user = wished("user", &["submit:*"], Limits::default());
    let user = root.create_key(&user).await.unwrap().credentials;
    drop(rooted);
    for args in [&[] as &[&str], &["--allow-anonymous"]] {
        let keyed = cluster.router_at("0.0.0.0:0", args).await.unwrap();
        apps(keyed.url(), None).await.unwrap_err();
        apps(keyed.url(), Some(&user)).await.unwrap();
    }
    cluster.cleanup().await.unwrap();
}

#[tokio::test]
async fn without_redis_known_keys_are_known_and_nobody_else_is_let_in() {
    let stage = keyed().await;
    let proxy = Proxy::of(stage.cluster.redis_url()).await.unwrap();
    let url = proxy.url();
    let router = stage
        .cluster
        .router(&["--redis-url", url.expose()])
        .await
        .unwrap();
    let alice = key(&stage, "alice", &["submit:*", "watch"]).await;
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
    // Perhaps somebody else made it just now.
    assert_eq!(status("bob-1:s").await, StatusCode::SERVICE_UNAVAILABLE);
    stage.clean_up().await;
}
