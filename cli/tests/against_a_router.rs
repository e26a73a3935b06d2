//! `warmq` and its client against a fake router.

#![allow(clippy::unwrap_used, reason = "a panic fails the test, in helpers too")]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use warmq_cli::client::{Client, Error, Submission};
use warmq_types::hint::Hint;
use warmq_types::ids::AppId;

const ID: &str = "01a0a1b8-0d70-7000-8000-000000000001";

/// The headers and input of every submission, and the `Authorization` of every file request.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(HeaderMap, Value)>>>);

async fn submit(
    State(seen): State<Seen>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Json(input): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if name == "unknown" {
        let body = json!({"detail": format!("there is no app {owner}/{name}")});
        return (StatusCode::NOT_FOUND, Json(body));
    }
    if input["width"] == 7 {
        let detail =
            json!([{"loc": ["body", "width"], "msg": "7 is too small", "type": "minimum"}]);
        return (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({"detail": detail})),
        );
    }
    seen.0.lock().unwrap().push((headers, input));
    let answer = json!({
        "status": "IN_QUEUE", "request_id": ID, "response_url": "http://h/r", "status_url": "http://h/s",
        "cancel_url": "http://h/c", "queue_position": 0, "logs": null, "metrics": {}
    });
    (StatusCode::OK, Json(answer))
}

/// A job that succeeded, with a picture at this router.
async fn job(headers: HeaderMap) -> Json<Value> {
    let host = headers["host"].to_str().unwrap();
    Json(json!({
        "id": ID, "app": "warmq/diffusion", "hint": "shapes", "priority": "normal", "input": {},
        "created_ms": 1000, "state": "succeeded", "attempt": 1, "fence": 1, "dispatched_ms": 1001,
        "started_ms": 1002, "finished_ms": 1300, "runner": "gpu-a",
        "timings": {"warm": true, "load_ms": 0, "run_ms": 250},
        "output": {"images": [{"url": format!("http://{host}/files/warmq/diffusion/{ID}/0.png")}]},
        "queue_position": null
    }))
}

/// A job that can be cancelled, and one that ended before.
async fn cancel(Path(id): Path<String>) -> (StatusCode, Json<Value>) {
    let body = json!({
        "id": id, "app": "warmq/diffusion", "priority": "normal", "input": {}, "created_ms": 1000,
        "state": "cancelled", "attempt": 0, "fence": 0, "finished_ms": 3000, "queue_position": null
    });
    match id.as_str() {
        ID => (StatusCode::OK, Json(body)),
        _ => {
            let detail = "the job cannot be cancelled: it has succeeded";
            let body = json!({"detail": detail, "error_type": "already_completed"});
            (StatusCode::BAD_REQUEST, Json(body))
        }
    }
}

/// Pages of 300 jobs whose ids end with 299, 298, …, 0. As many as requested, but at most 120: a
/// page may be shorter than its limit.
async fn jobs(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let number = |id: &String| id[ID.len() - 3..].parse::<usize>().unwrap();
    let end = query.get("before").map_or(300, number);
    let limit: usize = query["limit"].parse().unwrap();
    assert!(limit <= 200, "{limit}");
    let first = end.saturating_sub(limit.min(120));
    let id = |number: usize| format!("{}{number:03}", &ID[..ID.len() - 3]);
    let jobs = (first..end).rev().map(|number| {
        json!({
            "id": id(number), "app": "warmq/diffusion", "state": "queued", "priority": "normal",
            "attempt": 0, "created_ms": 1000
        })
    });
    let next = (first > 0).then(|| id(first));
    Json(json!({"jobs": jobs.collect::<Vec<_>>(), "next": next}))
}

async fn create_key(
    State(seen): State<Seen>,
    headers: HeaderMap,
    Json(wished): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut made = wished.clone();
    made["id"] = "shop-1".into();
    made["created_ms"] = 1000.into();
    made["credentials"] = "shop-1:s3cr3t".into();
    seen.0.lock().unwrap().push((headers, wished));
    (StatusCode::CREATED, Json(made))
}

/// One key, for callers that have one.
async fn keys(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if headers.contains_key("authorization") {
        return (StatusCode::OK, Json(json!({"keys": [shop()]})));
    }
    let body = json!({"detail": "this router requires a key", "error_type": "unauthorized"});
    (StatusCode::UNAUTHORIZED, Json(body))
}

fn shop() -> Value {
    json!({
        "id": "shop-1", "scopes": ["read"], "created_ms": 1000,
        "limits": {"rate": {"per_second": 2.5, "burst": 3}, "max_jobs": 40, "weight": 2.0}
    })
}

async fn change_key(
    State(seen): State<Seen>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(change): Json<Value>,
) -> Json<Value> {
    let mut key = shop();
    key["id"] = id.into();
    key["limits"] = change["limits"].clone();
    seen.0.lock().unwrap().push((headers, change));
    Json(key)
}

async fn revoke_key(Path(id): Path<String>) -> (StatusCode, Json<Value>) {
    match id.as_str() {
        "shop-1" => (StatusCode::NO_CONTENT, Json(Value::Null)),
        _ => {
            let body = json!({"detail": "there is no key of that id", "error_type": "not_found"});
            (StatusCode::NOT_FOUND, Json(body))
        }
    }
}

async fn file(State(seen): State<Seen>, headers: HeaderMap) -> &'static str {
    seen.0.lock().unwrap().push((headers, Value::Null));
    "a picture"
}

async fn router() -> (String, Seen) {
    let seen = Seen::default();
    let routes = Router::new()
        .route("/queue/{owner}/{name}", post(submit))
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{id}", get(job).delete(cancel))
        .route("/files/{*key}", get(file))
        .route("/v1/keys", get(keys).post(create_key))
        .route("/v1/keys/{id}", patch(change_key).delete(revoke_key))
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, seen)
}

/// Runs the built `warmq` against the fake router.
async fn warmq(url: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmq"));
    command
        .env_remove("WARMQ_KEY")
        .args(["--url", url])
        .args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn app() -> AppId {
    AppId::parse("warmq/diffusion").unwrap()
}

#[tokio::test]
async fn hint_priority_and_key_travel_as_headers() {
    let (url, seen) = router().await;
    let client = Client::new(&format!("{url}/"), Some("secret")).unwrap();
    let hint = Hint::parse("größe").unwrap();
    let submission = Submission::new(app(), json!({"prompt": "x"})).hint(hint);
    assert_eq!(
        client
            .submit(&submission)
            .await
            .unwrap()
            .request_id
            .to_string(),
        ID
    );
    let seen = seen.0.lock().unwrap();
    let (headers, input) = &seen[0];
    assert_eq!(headers["x-fal-runner-hint"].as_bytes(), "größe".as_bytes());
    assert_eq!(headers["x-fal-queue-priority"], "normal");
    assert_eq!(headers["authorization"], "Key secret");
    assert_eq!(input["prompt"], "x");
}

#[tokio::test]
async fn a_key_is_never_sent_to_another_server() {
    let (url, _) = router().await;
    let (elsewhere, seen) = router().await;
    let client = Client::new(&url, Some("secret")).unwrap();
    let file = format!("{elsewhere}/files/x.png").parse().unwrap();
    assert_eq!(client.file(&file).await.unwrap(), "a picture");
    assert!(!seen.0.lock().unwrap()[0].0.contains_key("authorization"));
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn an_unknown_job_is_none_and_an_unknown_app_is_refused() {
    let (url, _) = router().await;
    let client = Client::new(&url, None).unwrap();
    let unknown = Submission::new(AppId::parse("a/unknown").unwrap(), json!({}));
    let refused = client.submit(&unknown).await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused { status: 404, .. }),
        "{refused}"
    );
    // No such route: 404.
    let nowhere = Client::new(&format!("{url}/nowhere"), None).unwrap();
    assert!(nowhere.job(ID.parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn submitting_prints_the_id_alone() {
    let (url, _) = router().await;
    let output = warmq(&url, &["submit", "warmq/diffusion", "--input", "{}"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{ID}\n"));
}

#[tokio::test]
async fn a_reader_that_has_ended_ends_the_command_without_a_word() {
    let (url, _) = router().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmq"));
    let args = ["--url", &url, "submit", "warmq/diffusion", "--input", "{}"];
    command.args(args).stdout(writer).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.signal(), Some(13), "SIGPIPE");
}

#[tokio::test]
async fn waiting_prints_the_result_and_saves_the_pictures() {
    let (url, _) = router().await;
    let folder = std::env::temp_dir().join(format!("warmq-save-{}", std::process::id()));
    let save = folder.display().to_string();
    let output = warmq(&url, &["submit", "warmq/diffusion", "--save", &save]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["images"][0]["url"].is_string());
    let saved = std::fs::read_to_string(folder.join(format!("{ID}-0.png"))).unwrap();
    assert_eq!(saved, "a picture");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_cancellation_is_reported_and_an_ended_job_is_a_usage_error() {
    let (url, _) = router().await;
    let output = warmq(&url, &["cancel", ID]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, format!("job {ID}: cancelled\n"));
    let ended = ID.replace("0001", "0002");
    let output = warmq(&url, &["cancel", &ended]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("it has succeeded"),
        "{}",
        stderr(&output)
    );
    let nowhere = warmq(&format!("{url}/nowhere"), &["cancel", ID]).await;
    assert_eq!(nowhere.status.code(), Some(2));
}

#[tokio::test]
async fn as_many_pages_are_read_as_the_number_of_jobs_needs() {
    let (url, _) = router().await;
    for (limit, expected, has_more) in [("7", 7, true), ("250", 250, true), ("1000", 300, false)] {
        let output = warmq(&url, &["jobs", "--json", "--limit", limit]).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let jobs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(jobs.len(), expected);
        let ids: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
        assert!(ids.is_sorted_by(|newer, older| newer > older));
        let table = warmq(&url, &["jobs", "-n", limit]).await;
        let rows = String::from_utf8_lossy(&table.stdout).lines().count();
        assert_eq!(rows, expected + 1);
        assert_eq!(stderr(&table).contains("--before"), has_more, "{limit}");
    }
}

#[tokio::test]
async fn a_wrong_field_is_named_and_is_a_usage_error() {
    let (url, _) = router().await;
    let args = ["submit", "warmq/diffusion", "--input", r#"{"width": 7}"#];
    let output = warmq(&url, &args).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("width: 7 is too small"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn a_new_key_is_alone_on_standard_output_and_as_requested() {
    let (url, seen) = router().await;
    let args = [
        "keys",
        "create",
        "shop",
        "--scope",
        "submit:warmq/*,read",
        "--rate",
        "2.5",
        "--max-jobs",
        "40",
        "--max-running",
        "3",
        "--weight",
        "0.5",
    ];
    let output = warmq(&url, &args).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, b"shop-1:s3cr3t\n");
    assert!(!stderr(&output).contains("s3cr3t"), "{}", stderr(&output));
    let wished = json!({
        "name": "shop", "scopes": ["submit:warmq/*", "read"],
        "limits": {
            "rate": {"per_second": 2.5, "burst": 3}, "max_jobs": 40, "max_running": 3, "weight": 0.5
        }
    });
    assert_eq!(seen.0.lock().unwrap()[0].1, wished);
}

#[tokio::test]
async fn changed_limits_of_a_key_are_sent_with_its_others() {
    let (url, seen) = router().await;
    let set = ["--key", "root:s3cr3t", "keys", "set", "shop-1"];
    let changes = ["--max-running", "7", "--weight", "0.25", "--rate", "none"];
    let output = warmq(&url, &[&set[..], &changes].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().nth(1).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..6], ["shop-1", "read", "-", "40", "7", "0.25"]);
    let limits = json!({"max_jobs": 40, "max_running": 7, "weight": 0.25});
    assert_eq!(seen.0.lock().unwrap()[0].1, json!({"limits": limits}));

    let json = warmq(&url, &[&set[..], &["--max-jobs", "5", "--json"]].concat()).await;
    let key: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(key["limits"]["max_jobs"], 5);

    let other = ["--key", "root:s3cr3t", "keys", "set", "other"];
    let unknown = warmq(&url, &[&other[..], &["--weight", "1"]].concat()).await;
    assert_eq!(unknown.status.code(), Some(2));
    let reason = stderr(&unknown);
    assert!(reason.contains("key 'other' does not exist"), "{reason}");
    assert_eq!(seen.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn keys_are_revoked_by_their_ids_and_mistakes_are_usage_errors() {
    let (url, _) = router().await;
    let output = warmq(&url, &["keys", "revoke", "shop-1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout, b"key shop-1: revoked\n");
    for (args, named) in [
        (&["keys", "revoke", "other"] as &[&str], "no key"),
        (
            &["keys", "create", "x", "--scope", "root"],
            "'root' is not a scope",
        ),
        (&["keys", "create", "x", "--rate", "0"], "not 0"),
        (
            &["keys", "create", "x", "--weight", "NaN"],
            "from 0.01 to 1000, not NaN",
        ),
        (
            &["keys", "create", "x", "--max-running", "0"],
            "at least 1, not 0",
        ),
        (
            &["keys", "set", "shop-1", "--weight", "2000"],
            "from 0.01 to 1000, not 2000",
        ),
        (&["keys", "set", "shop-1"], "--max-running"),
        (&["keys", "set", "shop-1", "--burst", "2"], "--rate"),
        (&["keys", "create", "X"], "a key's name"),
    ] {
        let output = warmq(&url, args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn a_missing_key_is_an_error_with_its_remedy() {
    let (url, _) = router().await;
    let output = warmq(&url, &["keys", "list"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("WARMQ_KEY"), "{}", stderr(&output));
}

#[tokio::test]
async fn json_with_a_mistake_is_a_usage_error_with_its_position() {
    let args = ["submit", "a/b", "--input", "{\"a\": }"];
    let output = warmq("http://127.0.0.1:9", &args).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("line 1 column 7"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn without_a_router_the_error_names_the_address_and_the_remedy() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = warmq(&url, &["apps"]).await;
    assert_eq!(output.status.code(), Some(69));
    let text = stderr(&output);
    assert!(text.contains(&url) && text.contains("make up"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
