//! A session: begun with a key, ended by its holder or with its key, useless to other pages.

use reqwest::header::SET_COOKIE;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_tests::System;

use super::WIDE;
use super::browser::Browser;

/// The configured admin key.
const ROOT: &str = "root:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

async fn keyed() -> System {
    System::with_config(&format!("admin_key = '{ROOT}'\n[apps.'bench/timed']")).await
}

/// Creates a key as the admin: `id:secret`.
async fn key(system: &System, scopes: &[&str]) -> String {
    let authorization = format!("Key {ROOT}");
    let headers = [
        ("authorization", &*authorization),
        ("content-type", "application/json"),
    ];
    let body = json!({"name": "alice", "scopes": scopes}).to_string();
    let made = system.http(Method::POST, "/v1/keys", &headers, body).await;
    made.body["credentials"].as_str().unwrap().to_owned()
}

/// Logs in and returns the cookie.
async fn log_in(system: &System, key: &str) -> String {
    let body = json!({"key": key}).to_string();
    let json = [("content-type", "application/json")];
    let answer = system.http(Method::POST, "/v1/session", &json, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

async fn with_cookie(
    system: &System,
    cookie: &str,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
) -> (StatusCode, Value) {
    let headers = [
        &[("cookie", cookie), ("content-type", "application/json")],
        headers,
    ]
    .concat();
    let answer = system.http(method, path, &headers, "{}").await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_person_logs_in_with_a_key_and_out() {
    let system = keyed().await;
    let browser = Browser::open(&system, WIDE).await;
    browser.shows("API key").await;
    browser.picture("login").await;
    browser.write("#key", "root:wrong").await;
    browser.press("Log in").await;
    browser
        .shows("the key does not exist, or was revoked")
        .await;
    browser.write("#key", ROOT).await;
    browser.press("Log in").await;
    browser.shows("Overview").await;
    browser.shows("Key root").await;
    let hidden = "return document.cookie === '' && localStorage.length === 0";
    browser
        .holds("no script can read the session", hidden)
        .await;

    browser.view("keys").await;
    browser.write("#key-name", "bob").await;
    browser.write("#key-running", "3").await;
    browser.write("#key-weight", "2.5").await;
    browser.find("#scope-watch").await.click().await.unwrap();
    browser.press("Create key").await;
    browser.shows("it is shown only now").await;
    browser.shows("bob-").await;
    browser.shows("3 running per app; weight 2.5").await;
    browser.picture("keys").await;
    browser.press("Limits").await;
    browser.shows("Limits of bob-").await;
    browser.write("#limit-rate", "5").await;
    browser.write("#limit-running", "").await;
    browser.write("#limit-weight", "4").await;
    browser.picture("limits").await;
    browser.press("Save limits").await;
    browser.shows("5/s, 5 at once; weight 4").await;
    browser.press("Log out").await;
    browser.shows("API key").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_view_needs_the_scope_of_its_calls() {
    let system = keyed().await;
    let watcher = key(&system, &["watch"]).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.write("#key", &watcher).await;
    browser.press("Log in").await;
    browser.shows("Live").await;
    let page = browser.page().await;
    assert!(
        !page.contains("Dead letters") && !page.contains("Submit a job"),
        "{page}"
    );
    // A revoked key ends its open pages.
    let (id, _) = watcher.split_once(':').unwrap();
    let path = format!("/v1/keys/{id}");
    let authorization = format!("Key {ROOT}");
    let root = [("authorization", authorization.as_str())];
    let revoked = system.http(Method::DELETE, &path, &root, "").await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    browser.shows("API key").await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_session_has_the_rights_of_its_key_and_ends_with_it() {
    let system = keyed().await;
    let credentials = key(&system, &["watch"]).await;
    let cookie = log_in(&system, &credentials).await;
    let get = |path| (Method::GET, path);
    let (status, session) = with_cookie(&system, &cookie, get("/v1/session"), &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&session["may_watch"], &session["may_administer"]),
        (&json!(true), &json!(false))
    );
    let (status, _) = with_cookie(&system, &cookie, get("/v1/runners"), &[]).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = with_cookie(&system, &cookie, get("/v1/keys"), &[]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    let (id, _) = credentials.split_once(':').unwrap();
    let authorization = format!("Key {ROOT}");
    let revoked = [("authorization", authorization.as_str())];
    let path = format!("/v1/keys/{id}");
    let answer = system.http(Method::DELETE, &path, &revoked, "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let (status, body) = with_cookie(&system, &cookie, get("/v1/runners"), &[]).await;
    assert_eq!(
        (status, &body["detail"]),
        (
            StatusCode::UNAUTHORIZED,
            &json!("the session has ended: log in again")
        )
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_session_is_useless_to_other_pages_and_after_its_end() {
    let system = keyed().await;
    let cookie = log_in(&system, ROOT).await;
    let reload = (Method::POST, "/v1/config/reload");
    let submit = (Method::POST, "/queue/bench/timed");
    let own = [("sec-fetch-site", "same-origin")];
    // A sibling site on another port sends the cookie, too.
    let sibling = [
        ("sec-fetch-site", "same-site"),
        ("origin", "http://127.0.0.1:1"),
    ];
    for call in [reload.clone(), submit.clone()] {
        let (status, _) = with_cookie(&system, &cookie, call.clone(), &own).await;
        assert_eq!(status, StatusCode::OK, "{call:?}");
        for headers in [&sibling[..], &sibling[1..], &[]] {
            let (status, _) = with_cookie(&system, &cookie, call.clone(), headers).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{call:?} {headers:?}");
        }
    }
    let (status, _) = with_cookie(&system, &cookie, (Method::GET, "/v1/keys"), &sibling).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = with_cookie(&system, &cookie, (Method::DELETE, "/v1/session"), &own).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = with_cookie(&system, &cookie, (Method::GET, "/v1/keys"), &own).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    system.cleanup().await;
}
