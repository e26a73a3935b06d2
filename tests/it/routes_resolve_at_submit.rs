//! Routes are submitted to like apps, by HTTP and AMQP, and report why they resolved as they did.

use lapin::BasicProperties;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_testkit::{Error, Testbed, WorkerOptions};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next, with_header};
use warmq_tests::system::TIMEOUT;
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;

/// A switch by size in front of a split by user.
const ROUTES: &str = r#"
    [apps."acme/small"]
    hint_from = "input.model"
    [apps."acme/v1"]
    [apps."acme/v2"]

    [routes."acme/images"]
    kind = "switch"
    rules = [
      { when = "input.width <= 512", to = "acme/small" },
      { when = "headers['x-plan'] == 'pro'", to = "acme/v2" },
    ]
    default = "acme/ab"

    [routes."acme/ab"]
    kind = "split"
    to = [{ app = "acme/v1", weight = 1 }, { app = "acme/v2", weight = 1 }]
    by = "input.user"
"#;

/// The same names, all to v2.
const ALL_TO_V2: &str = r#"
    [apps."acme/small"]
    [apps."acme/v1"]
    [apps."acme/v2"]
    [routes."acme/images"]
    kind = "split"
    to = [{ app = "acme/v2", weight = 1 }]
    [routes."acme/ab"]
    kind = "split"
    to = [{ app = "acme/v2", weight = 1 }]
"#;

/// Three mistakes.
const BROKEN: &str = "[apps.\"acme/v1\"]\n[routes.\"acme/images\"]\nkind = \"switch\"\ndefault = \"acme/nobody\"\n\
                      rules = [{ when = \"input.width <\", to = \"acme/v1\" }]\nspeed = 9\n";

/// Submits and finds the job's record.
async fn submitted(system: &System, to: &str, headers: &[(&str, &str)], input: Value) -> JobRecord {
    let answer = system.post(to, headers, &input.to_string()).await;
    system.job(answer.job_id()).await
}

fn write(system: &System, toml: &str) {
    std::fs::write(system.testbed.folder().join("warmq.toml"), toml).unwrap();
}

async fn reload(system: &System) -> HttpResponse {
    system
        .http(Method::POST, "/v1/config/reload", &[], "")
        .await
}

#[tokio::test]
async fn each_submission_is_routed_by_the_rules_and_keeps_the_routes_name() {
    let system = System::with_config(ROUTES).await;
    let _small = system
        .worker(WorkerOptions::timed("small", "acme/small"))
        .await;
    let _v1 = system.worker(WorkerOptions::timed("v1", "acme/v1")).await;
    let _v2 = system.worker(WorkerOptions::timed("v2", "acme/v2")).await;

    let input = json!({"width": 64, "model": "m", "run_ms": 5, "load_ms": 5, "output": {"n": 1}});
    let answer = system.post("acme/images", &[], &input.to_string()).await;
    let small = answer.job_id();
    let base = format!("/queue/acme/images/requests/{small}");
    for (field, path) in [
        ("response_url", ""),
        ("status_url", "/status"),
        ("cancel_url", "/cancel"),
    ] {
        assert_eq!(
            answer.body[field],
            format!("{}{base}{path}", system.router.url()),
            "{field}"
        );
    }
    let record = system.succeeded(small).await;
    assert_eq!(record.spec.app.as_str(), "acme/small");
    assert_eq!(
        record.spec.hint.unwrap().as_str(),
        "m",
        "derived by the app's setting"
    );
    assert_eq!(record.spec.route.len(), 1);
    let done = system.get(&format!("{base}/status")).await;
    assert_eq!(
        (done.status, &done.body["status"]),
        (StatusCode::OK, &"COMPLETED".into())
    );
    // A switch changes nothing in the result; the app's own name finds the job, too.
    for app in ["acme/images", "acme/small"] {
        let result = system.get(&format!("/queue/{app}/requests/{small}")).await;
        assert_eq!(result.body, json!({"n": 1}), "{app}");
    }
    for elsewhere in ["acme/ab", "acme/v1", "acme/none"] {
        let result = system
            .get(&format!("/queue/{elsewhere}/requests/{small}"))
            .await;
        assert_eq!(result.status, StatusCode::NOT_FOUND, "{elsewhere}");
    }

    // A user keeps one version, and the result names it.
    let of = |user: &str| json!({"user": user, "run_ms": 5, "output": {"n": 2}});
    let first = submitted(&system, "acme/images", &[], of("ada")).await;
    let version = first.spec.app.to_string();
    for _ in 0..3 {
        let again = submitted(&system, "acme/images", &[], of("ada")).await;
        assert_eq!(again.spec.app.as_str(), version);
    }
    system.succeeded(first.spec.id).await;
    let signed = json!({"n": 2, "model_version": version});
    let result = format!("/queue/acme/images/requests/{}", first.spec.id);
    assert_eq!(system.get(&result).await.body, signed);
    let record = system.get(&format!("/v1/jobs/{}", first.spec.id)).await;
    assert_eq!(record.body["output"], signed);
    let ran = system
        .http(Method::POST, "/run/acme/images", &[], of("ada").to_string())
        .await;
    assert_eq!(ran.body, signed);
    let hops = &first.spec.route;
    assert_eq!(hops.len(), 2);
    let reason =
        "none of its 2 rules applied (rule 1: 'width' is absent; rule 2: 'x-plan' is absent)";
    assert_eq!(hops[0].reason, reason);

    let pro = submitted(&system, "acme/images", &[("X-Plan", "pro")], json!({})).await;
    assert_eq!(pro.spec.app.as_str(), "acme/v2");
    system.cleanup().await;
}

#[tokio::test]
async fn a_message_to_a_route_is_one_job_and_its_reply_is_signed() {
    let system = System::with_config(ROUTES).await;
    let _v1 = system.worker(WorkerOptions::timed("v1", "acme/v1")).await;
    let _v2 = system.worker(WorkerOptions::timed("v2", "acme/v2")).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let job = JobId::generate();
    let properties = BasicProperties::default()
        .with_message_id(job.to_string().into())
        .with_reply_to(DIRECT_REPLY_TO.into());
    // At random, since no user is given; the repeat is the same job.
    let body = r#"{"run_ms": 5, "output": {"n": 1}}"#;
    for _ in 0..2 {
        user.submit("acme/ab", body, properties.clone()).await;
    }
    let reply = body_of(&next(&mut replies).await);
    let record = system.job(job).await;
    assert_eq!(record.spec.submitted_to().as_str(), "acme/ab");
    let signed = json!({"n": 1, "model_version": record.spec.app});
    assert_eq!(reply["payload"], signed, "{reply}");

    // Conditions can read a message's headers.
    let job = JobId::generate();
    let with_plan = with_header("X-Plan", "pro").with_message_id(job.to_string().into());
    user.submit("acme/images", r#"{"run_ms": 5}"#, with_plan)
        .await;
    let record = system
        .reached_once_recorded(job, warmq_types::state::JobState::Succeeded)
        .await;
    assert_eq!(record.spec.app.as_str(), "acme/v2");
    system.cleanup().await;
}

#[tokio::test]
async fn an_input_that_a_rule_rejects_is_refused_with_the_rules_name() {
    let system = System::with_config(ROUTES).await;
    let refused = system
        .post("acme/images", &[], r#"{"width": "wide"}"#)
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let reported = refused.body["detail"][0]["msg"].as_str().unwrap();
    let rule = "route acme/images, rule 1 (input.width <= 512): ";
    assert!(reported.starts_with(rule), "{reported}");
    let unknown = system.post("acme/none", &[], "{}").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let malformed = system.post("acme/images", &[], "{").await;
    assert_eq!(malformed.status, StatusCode::BAD_REQUEST);
    system.cleanup().await;
}

#[tokio::test]
async fn routes_are_reloaded_whole_or_not_at_all() {
    let system = System::with_config(ROUTES).await;
    let to = async |input: Value| {
        submitted(&system, "acme/images", &[], input)
            .await
            .spec
            .app
            .to_string()
    };
    let small = || json!({"width": 64});
    assert_eq!(to(small()).await, "acme/small");

    write(&system, BROKEN);
    let refused = reload(&system).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let reported: Vec<&str> = refused.body["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["msg"].as_str().unwrap())
        .collect();
    assert_eq!(reported.len(), 3, "{reported:#?}");
    for place in ["line 4, column 11", "line 5, column 33", "line 6, column 9"] {
        assert!(
            reported.iter().any(|problem| problem.contains(place)),
            "{place}: {reported:#?}"
        );
    }
    assert_eq!(
        to(small()).await,
        "acme/small",
        "what was declared before still counts"
    );

    write(&system, ALL_TO_V2);
    let reloaded = reload(&system).await;
    assert_eq!(reloaded.status, StatusCode::OK, "{:?}", reloaded.body);
    assert_eq!(reloaded.body["routes"][1]["route"], "acme/images");
    assert_eq!(to(small()).await, "acme/v2");

    write(&system, ROUTES);
    system.router.hang_up().unwrap();
    system
        .until("SIGHUP reloads, too", TIMEOUT, async || {
            (to(small()).await == "acme/small").then_some(())
        })
        .await;
    let apps = system.get("/v1/apps").await.body;
    assert_eq!(
        apps["routes"][1],
        json!({
            "route": "acme/images", "kind": "switch", "to": ["acme/ab", "acme/small", "acme/v2"]
        })
    );
    system.cleanup().await;
}

#[tokio::test]
async fn the_dispatcher_follows_new_settings_of_its_app() {
    let app = |policy: &str| format!("[apps.\"bench/timed\"]\npolicy = \"{policy}\"\n");
    let system = System::with_config(&app("fal")).await;
    let _worker = system.timed_worker("a").await;
    let policy = async || {
        let job = system.succeeded(system.submit("m", 1).await).await;
        job.decision.unwrap().policy
    };
    assert_eq!(policy().await, "fal");
    write(&system, &app("warm"));
    assert_eq!(reload(&system).await.status, StatusCode::OK);
    system
        .until("jobs are sent by the new policy", TIMEOUT, async || {
            (policy().await == "warm").then_some(())
        })
        .await;
    system.cleanup().await;
}

#[tokio::test]
async fn an_idempotency_key_stays_one_job_although_the_route_changes() {
    let system = System::with_config(ROUTES).await;
    let submit = async |input: Value| {
        let key = [("idempotency-key", "order-1")];
        submitted(&system, "acme/images", &key, input).await
    };
    let first = submit(json!({"width": 64})).await;
    // Another input would resolve differently, and so would the same one by now.
    let second = submit(json!({"width": 2048})).await;
    write(&system, ALL_TO_V2);
    assert_eq!(reload(&system).await.status, StatusCode::OK);
    let third = submit(json!({"width": 64})).await;
    assert_eq!([second.spec.id, third.spec.id], [first.spec.id; 2]);
    assert_eq!(third.spec.app.as_str(), "acme/small");
    system.cleanup().await;
}

#[tokio::test]
async fn a_router_with_mistakes_in_its_routes_lists_them_and_does_not_start() {
    let testbed = Testbed::builder().config(BROKEN).start().await.unwrap();
    let error = testbed.router(&[]).await.err().unwrap();
    let Error::Ended { status, tail, .. } = error else {
        panic!("it has started, or failed otherwise: {error}");
    };
    assert_eq!(status.code(), Some(64), "{tail}");
    for place in ["line 4, column 11", "line 5, column 33", "line 6, column 9"] {
        assert!(tail.contains(place), "{place}: {tail}");
    }
    testbed.cleanup().await.unwrap();
}
