//! fal's documented HTTP protocol, header by header and path by path. docs/fal-differences.md lists
//! the differences.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::job::{JobRecord, Priority};
use warmq_types::state::JobState;

/// An app without workers: accepted jobs wait.
const DECLARED: &str = "[apps.'bench/timed']";

/// Submits with these headers and returns the record.
async fn accepted(system: &System, headers: &[(&str, &str)]) -> JobRecord {
    let answer = system.post(TIMED, headers, "{}").await;
    system.job(answer.job_id()).await
}

/// Asserts that the submission is refused, naming this header.
async fn assert_refused(system: &System, headers: &[(&str, &str)], name: &str) {
    let answer = system.post(TIMED, headers, "{}").await;
    let what = format!("{headers:?}: {:?}", answer.body);
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}");
    assert_eq!(
        answer.body["detail"][0]["loc"],
        json!(["header", name]),
        "{what}"
    );
}

#[tokio::test]
async fn the_time_to_start_has_two_names_and_the_newer_one_counts() {
    const NEW: &str = "x-fal-request-start-timeout";
    const OLD: &str = "x-fal-request-timeout";
    let system = System::with_config(DECLARED).await;
    for (headers, expected) in [
        (vec![(NEW, "2")], 2_000),
        (vec![(OLD, "2")], 2_000),
        (vec![(OLD, "60"), (NEW, "2.5")], 2_500),
        (vec![("x-request-start-timeout", "500ms")], 500),
    ] {
        let job = accepted(&system, &headers).await;
        assert_eq!(job.spec.start_timeout_ms, Some(expected), "{headers:?}");
    }
    for nonsense in ["abc", "0", "-1", "inf", "NaN", ""] {
        assert_refused(&system, &[(NEW, nonsense)], NEW).await;
        assert_refused(&system, &[(OLD, nonsense)], OLD).await;
        assert_refused(&system, &[(OLD, "5"), (NEW, nonsense)], NEW).await;
    }
    let expired = system
        .ended(accepted(&system, &[(NEW, "0.2")]).await.spec.id)
        .await;
    assert_eq!(expired.state, JobState::Expired);
    system.cleanup().await;
}

#[tokio::test]
async fn header_values_are_parsed_as_fal_does() {
    let system = System::with_config(DECLARED).await;
    for (value, attempts) in [
        ("1", 1),
        ("yes", 1),
        ("True", 1),
        ("YES", 1),
        ("0", 10),
        ("no", 10),
        ("False", 10),
        ("", 10),
    ] {
        let job = accepted(&system, &[("x-fal-no-retry", value)]).await;
        assert_eq!(job.spec.max_attempts, attempts, "{value}");
    }
    for (value, priority) in [
        ("Low", Priority::Low),
        ("LOW", Priority::Low),
        ("Normal", Priority::Normal),
        ("", Priority::Normal),
    ] {
        let job = accepted(&system, &[("x-fal-queue-priority", value)]).await;
        assert_eq!(job.spec.priority, priority, "{value}");
    }
    for (value, no_store) in [
        ("0", true),
        ("False", true),
        ("1", false),
        ("yes", false),
        ("", false),
    ] {
        let job = accepted(&system, &[("x-fal-store-io", value)]).await;
        assert_eq!(job.spec.no_store, no_store, "{value}");
    }
    const TEN_YEARS_S: u64 = 10 * 365 * 24 * 3600;
    for name in [
        "x-fal-object-lifecycle-preference",
        "x-fal-object-lifecycle",
    ] {
        for (seconds, links_s) in [("60.0", 60), ("60", 60), ("null", TEN_YEARS_S)] {
            let value = format!(r#"{{"expiration_duration_seconds": {seconds}}}"#);
            let job = accepted(&system, &[(name, &value)]).await;
            assert_eq!(job.spec.links_s, Some(links_s), "{name}: {seconds}");
        }
    }
    for (name, value) in [
        ("x-fal-no-retry", "2"),
        ("x-fal-store-io", "maybe"),
        ("x-fal-queue-priority", "urgent"),
        ("x-fal-object-lifecycle-preference", "soon"),
    ] {
        assert_refused(&system, &[(name, value)], name).await;
    }
    system.cleanup().await;
}

#[tokio::test]
async fn messages_have_the_same_headers_under_either_name() {
    let system = System::with_config(DECLARED).await;
    let user = AmqpClient::connect(&system.testbed).await;
    for prefix in ["x-", "x-fal-"] {
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("request-start-timeout", "3600"),
            ("request-timeout", "60"),
            ("no-retry", "Yes"),
            ("queue-priority", "LOW"),
        ] {
            let value = AMQPValue::LongString(value.into());
            headers.insert(format!("{prefix}{name}").into(), value);
        }
        let hint = AMQPValue::LongString(b"mod\xe8le".to_vec().into());
        headers.insert(format!("{prefix}runner-hint").into(), hint);
        let id = JobId::generate();
        let properties = BasicProperties::default()
            .with_message_id(id.to_string().into())
            .with_headers(headers);
        user.submit(TIMED, "{}", properties).await;
        let spec = system
            .reached_once_recorded(id, JobState::Queued)
            .await
            .spec;
        assert_eq!(spec.hint.unwrap().as_str(), "modèle");
        assert_eq!(spec.start_timeout_ms, Some(3_600_000));
        assert_eq!((spec.max_attempts, spec.priority), (1, Priority::Low));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_is_polled_and_cancelled_under_its_full_endpoint_id() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let endpoint = format!("{TIMED}/v2/turbo");
    let input = r#"{"run_ms": 1, "output": {"n": 7}}"#;
    let answer = system.post(&endpoint, &[], input).await;
    let id = answer.job_id();
    let own = format!("{}/queue/{TIMED}/requests/{id}", system.router.url());
    assert_eq!(answer.body["response_url"], own);
    assert_eq!(system.succeeded(id).await.spec.path, "v2/turbo");
    for endpoint in [TIMED, &endpoint, &format!("{TIMED}/other")] {
        let base = format!("/queue/{endpoint}/requests/{id}");
        for path in [format!("{base}/status"), format!("{base}/status/")] {
            let status = system.get(&path).await;
            assert_eq!(status.body["status"], "COMPLETED", "{path}");
        }
        for path in [base.clone(), format!("{base}/"), format!("{base}/response")] {
            let result = system.get(&path).await;
            assert_eq!(result.body, json!({"n": 7}), "{path}");
            assert_eq!(result.headers["x-fal-served-from"], "a");
        }
        let stream = system.get(&format!("{base}/status/stream")).await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        assert_eq!(stream.headers["x-accel-buffering"], "no");
        assert_eq!(stream.headers["cache-control"], "no-cache");
        let cancel = system
            .http(Method::PUT, &format!("{base}/cancel"), &[], "")
            .await;
        assert_eq!(cancel.body, json!({"status": "ALREADY_COMPLETED"}));
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_path_about_jobs_is_never_a_submission() {
    let system = System::with_config(DECLARED).await;
    let id = accepted(&system, &[]).await.spec.id;
    let below = |path: &str| path.replace("ID", &id.to_string());
    for (path, expected) in [
        ("queue/APP/requests", StatusCode::NOT_FOUND),
        ("queue/APP/requests/", StatusCode::NOT_FOUND),
        ("queue/APP/requests/ID", StatusCode::METHOD_NOT_ALLOWED),
        (
            "queue/APP/requests/ID/cancel",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            "queue/APP/v2/requests/ID/cancel",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            "queue/APP/v2/requests/ID/status/",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        ("queue/APP/requests/ID/foo", StatusCode::NOT_FOUND),
        ("queue/APP/v2/requests/ID/foo", StatusCode::NOT_FOUND),
        ("queue/APP/v2%2Frequests%2FID", StatusCode::NOT_FOUND),
        ("run/APP/requests/ID/cancel", StatusCode::NOT_FOUND),
        ("run/APP/v2/requests/ID", StatusCode::NOT_FOUND),
        ("run/APP/requests/stream", StatusCode::NOT_FOUND),
    ] {
        let path = below(&format!("/{path}").replace("APP", TIMED));
        let answer = system.http(Method::POST, &path, &[], "{}").await;
        assert_eq!(answer.status, expected, "{path}: {:?}", answer.body);
        if expected == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = answer.headers["allow"].to_str().unwrap();
            assert!(!allowed.contains("POST"), "{path}: {allowed}");
        }
    }
    let unknown = system
        .get(&below(&format!("/queue/{TIMED}/requests/ID/foo")))
        .await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let apps = system.get("/v1/apps").await;
    assert_eq!(apps.body["apps"][0]["queued"], 1, "{:?}", apps.body);
    system.cleanup().await;
}

#[tokio::test]
async fn a_failure_is_final_for_clients_that_repeat_calls() {
    let system =
        System::with_config("[apps.'bench/timed']\nrun_timeout = '200ms'\nmax_attempts = 1").await;
    let _worker = system.timed_worker("a").await;
    let answer = system
        .http(
            Method::POST,
            &format!("/run/{TIMED}"),
            &[],
            r#"{"run_ms": 20000}"#,
        )
        .await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers["x-fal-request-timeout-type"], "user");
    system.cleanup().await;
}

#[tokio::test]
async fn fals_other_domain_is_the_same_behind_the_proxy_and_realtime_is_refused_by_name() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let proxied = async |target: &str, body: &'static str| {
        let headers = [("x-fal-target-url", target)];
        system
            .http(Method::POST, "/api/fal/proxy", &headers, body)
            .await
    };
    let target = format!("https://falrun.com/{TIMED}");
    let answer = proxied(&target, r#"{"run_ms": 1, "output": {"n": 7}}"#).await;
    assert_eq!(answer.body, json!({"n": 7}));
    let socket = system.get(&format!("/run/{TIMED}/realtime")).await;
    assert_eq!(socket.body["error_type"], "realtime_not_offered");
    let target = format!("https://queue.falrun.com/{TIMED}");
    system
        .succeeded(proxied(&target, "{}").await.job_id())
        .await;
    for target in [
        "https://rest.fal.ai/tokens/".to_owned(),
        format!("wss://fal.run/{TIMED}/realtime"),
        format!("https://ws.fal.run/{TIMED}"),
    ] {
        let answer = proxied(&target, "{}").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{target}");
        let sentence = answer.body["detail"].as_str().unwrap();
        assert!(
            sentence.starts_with("realtime is not supported"),
            "{sentence}"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_with_the_remedy() {
    let system = System::with_config(DECLARED).await;
    let mark = "\u{feff}{\"run_ms\": 7}";
    let marked = system
        .job(system.post(TIMED, &[], mark).await.job_id())
        .await;
    assert_eq!(marked.spec.input, json!({"run_ms": 7}));
    let form = system.post(TIMED, &[], "run_ms=7&load_ms=1").await;
    assert_eq!(form.status, StatusCode::BAD_REQUEST);
    assert!(
        form.body["detail"].as_str().unwrap().contains("form"),
        "{:?}",
        form.body
    );
    let packed = system
        .post(TIMED, &[("content-encoding", "gzip")], "\u{1f}")
        .await;
    assert_eq!(packed.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let detail: &Value = &packed.body["detail"];
    assert!(detail.as_str().unwrap().contains("gzip"), "{detail}");
    system.cleanup().await;
}
