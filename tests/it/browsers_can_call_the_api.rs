//! Web pages of any origin can submit jobs and read results, and nothing else.

use reqwest::{Method, StatusCode};
use warmq_tests::System;
use warmq_tests::system::TIMED;

const ORIGIN: (&str, &str) = ("origin", "https://example.com");

#[tokio::test]
async fn a_preflight_is_answered_for_the_headers_that_fals_client_sends() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let asked = "authorization,content-type,x-fal-queue-priority,x-fal-runner-hint";
    for (method, path) in [
        ("POST", format!("/queue/{TIMED}")),
        ("POST", format!("/run/{TIMED}/stream")),
        ("PUT", format!("/queue/{TIMED}/requests/1/cancel")),
        ("GET", format!("/queue/{TIMED}/requests/1/status/stream")),
        ("GET", "/files/1-a/a/b/c.png".to_owned()),
        ("POST", "/files/upload".to_owned()),
        ("POST", "/storage/upload/initiate".to_owned()),
        ("PUT", "/storage/upload/1-a/uploads/1/c.png".to_owned()),
        ("PUT", "/storage/parts/1-a/uploads/1/c.png/1".to_owned()),
        ("POST", "/api/fal/proxy".to_owned()),
    ] {
        let headers = [
            ORIGIN,
            ("access-control-request-method", method),
            ("access-control-request-headers", asked),
        ];
        let answer = system.http(Method::OPTIONS, &path, &headers, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["access-control-allow-methods"], method);
        assert_eq!(answer.headers["access-control-allow-headers"], asked);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn responses_and_errors_expose_the_job_id() {
    let system = System::with_config("[apps.'bench/timed']").await;
    for (app, status) in [(TIMED, StatusCode::OK), ("no/app", StatusCode::NOT_FOUND)] {
        let answer = system.post(app, &[ORIGIN], "{}").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let exposed = answer.headers["access-control-expose-headers"]
            .to_str()
            .unwrap();
        assert!(
            exposed.split(',').any(|name| name == "x-fal-request-id"),
            "{exposed}"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn the_proxy_forwards_only_fal_calls() {
    let system = System::with_config("[apps.'bench/timed']").await;
    for (target, status) in [
        (format!("https://queue.fal.run/{TIMED}"), StatusCode::OK),
        ("https://fal.run/no/app".to_owned(), StatusCode::NOT_FOUND),
        (
            "https://rest.fal.ai/tokens/".to_owned(),
            StatusCode::BAD_REQUEST,
        ),
        (
            format!("{}/v1/dead", system.router.url()),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let headers = [ORIGIN, ("x-fal-target-url", &target)];
        let answer = system
            .http(Method::POST, "/api/fal/proxy", &headers, "{}")
            .await;
        assert_eq!(answer.status, status, "{target}");
        let allowed = answer.headers.get_all("access-control-allow-origin");
        assert_eq!(allowed.iter().collect::<Vec<_>>(), ["*"]);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn operator_calls_are_refused_to_web_pages() {
    let system = System::start().await;
    for path in ["/v1/dead", "/v1/runners", "/metrics"] {
        let answer = system.http(Method::GET, path, &[ORIGIN], "").await;
        assert_eq!(
            answer.headers.get("access-control-allow-origin"),
            None,
            "{path}"
        );
        let headers = [ORIGIN, ("access-control-request-method", "DELETE")];
        let answer = system.http(Method::OPTIONS, path, &headers, "").await;
        assert_eq!(
            answer.headers.get("access-control-allow-origin"),
            None,
            "{path}"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn without_keys_foreign_host_names_are_refused() {
    let mut system = System::start().await;
    let named = [("host", "evil.example:8080")];
    let get = async |system: &System, path: &str, headers: &[(&str, &str)]| {
        system.http(Method::GET, path, headers, "").await
    };
    for path in [
        "/v1/runners",
        "/openapi.json",
        "/queue/a/b/requests/1/status",
        "/nothing",
    ] {
        let refused = get(&system, path, &named).await;
        assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        let advice = refused.body["detail"].as_str().unwrap();
        assert!(advice.contains("--public-url"), "{advice}");
    }
    let key = r#"{"name": "evil", "scopes": ["admin"]}"#;
    let headers = [named[0], ("content-type", "application/json")];
    let refused = system.http(Method::POST, "/v1/keys", &headers, key).await;
    assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(
        get(&system, "/healthz", &named).await.status,
        StatusCode::OK
    );
    let local = get(&system, "/v1/runners", &[("host", "localhost:1")]).await;
    assert_eq!(local.status, StatusCode::OK);
    system
        .replace_router(&["--public-url", "https://evil.example/warmq"])
        .await;
    assert_eq!(
        get(&system, "/v1/runners", &named).await.status,
        StatusCode::OK
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let system = System::start().await;
    let reload = async |headers: &[(&str, &str)]| {
        let answer = system
            .http(Method::POST, "/v1/config/reload", headers, "")
            .await;
        answer.status
    };
    for foreign in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null"), ("content-type", "text/plain")],
    ] {
        assert_eq!(reload(foreign).await, StatusCode::FORBIDDEN, "{foreign:?}");
    }
    assert_eq!(reload(&[]).await, StatusCode::OK);
    assert_eq!(
        reload(&[("origin", system.router.url())]).await,
        StatusCode::OK
    );
    system.cleanup().await;
}
