//! An uploaded file is named in a job's input by its URL, and the worker reads it from the
//! storage.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_tests::amqp::{DIRECT_REPLY_TO, with_id};
use warmq_tests::files::unix_s;
use warmq_tests::system::TIMED;
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;

const HOUR: Duration = Duration::from_secs(3600);

/// Counts the files of the storage, parts and incomplete ones included.
fn files(system: &System) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let count_entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            if path.is_dir() { count(&path) } else { 1 }
        };
        entries.map(count_entry).sum()
    }
    count(&system.testbed.folder().join("files"))
}

/// Runs a job that returns its input as output.
async fn echo(system: &System, output: Value) -> JobId {
    let input = json!({"run_ms": 1, "load_ms": 1, "output": output});
    system.submit_to(TIMED, "m", input).await
}

#[tokio::test]
async fn a_link_becomes_a_reference_in_the_job_and_a_link_in_responses() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let id = echo(&system, json!({"image": {"url": url}})).await;
    let record = system.succeeded(id).await;
    let given = record.spec.input["output"]["image"]["url"]
        .as_str()
        .unwrap();
    assert!(given.starts_with("warmq://files/uploads/"), "{given}");
    assert!(given.ends_with("/cat.png"), "{given}");

    let result = format!("/queue/{TIMED}/requests/{id}");
    let first = system.get(&result).await.body;
    let found = system.fetch(first["image"]["url"].as_str().unwrap()).await;
    assert_eq!(found.bytes, b"a cat");
    let job = system.get(&format!("/v1/jobs/{id}")).await.body;
    assert_eq!(job["output"], first, "the same url in each answer");
    assert_eq!(job["input"]["output"], first);
    assert_eq!(system.get(&result).await.body, first);
    system.cleanup().await;
}

#[tokio::test]
async fn replies_by_amqp_have_links_too() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let input = json!({"run_ms": 1, "load_ms": 1, "output": {"url": url}}).to_string();
    let properties = with_id(JobId::generate(), DIRECT_REPLY_TO);
    user.submit(TIMED, &input, properties).await;
    let reply = replies.next().await.unwrap().unwrap();
    let reply: Value = serde_json::from_slice(&reply.data).unwrap();
    let found = system
        .fetch(reply["payload"]["url"].as_str().unwrap())
        .await;
    assert_eq!(found.bytes, b"a cat");
    system.cleanup().await;
}

#[tokio::test]
async fn a_reference_without_a_link_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let (_, key) = url.split_once("/uploads/").unwrap();
    for reference in [
        format!("warmq://files/uploads/{key}"),
        format!(" WARMQ://files/uploads/{key}"),
        "warmq://files/../secret".to_owned(),
    ] {
        let input = json!({"output": [{"image_url": reference}]}).to_string();
        let refused = system.post(TIMED, &[], &input).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{reference}"
        );
        let problem = &refused.body["detail"][0];
        assert_eq!(problem["loc"], json!(["body", "output", 0, "image_url"]));
        assert_eq!(problem["type"], "file_reference");
    }
    let expired = system.signature("read", &format!("uploads/{key}"), 1).await;
    let foreign = json!([
        url.replace("cat.png", "dog.png"),
        format!("{}/files/{expired}/uploads/{key}", system.router.url()),
        "https://example.com/files/1-a/b/c.png",
        format!("see {url}"),
        "a red circle",
    ]);
    let id = echo(&system, foreign.clone()).await;
    let record = system.succeeded(id).await;
    assert_eq!(
        record.spec.input["output"], foreign,
        "they stay as they are"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn links_to_a_jobs_files_expire_with_its_result_or_as_requested() {
    let system = System::with_config("[apps.'bench/timed']\nretention = '1h'").await;
    let _worker = system.timed_worker("a").await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let input = json!({"run_ms": 1, "load_ms": 1, "output": {"url": url}}).to_string();
    let wish = [(
        "x-fal-object-lifecycle-preference",
        r#"{"expiration_duration_seconds": 60}"#,
    )];
    for (headers, expected_s) in [(&[][..], 3600), (&wish[..], 60)] {
        let accepted = system.post(TIMED, headers, &input).await.body;
        let id = accepted["request_id"].as_str().unwrap().parse().unwrap();
        let ended_s = system
            .succeeded(id)
            .await
            .finished_ms
            .unwrap()
            .div_ceil(1000);
        let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
        let url = result.body["url"].as_str().unwrap().to_owned();
        let (_, signature) = url.split_once("/files/").unwrap();
        let (expires, _) = signature.split_once('-').unwrap();
        assert_eq!(expires.parse::<u64>().unwrap(), ended_s + expected_s);
    }
    let wrong = [("x-fal-object-lifecycle-preference", "1h")];
    let refused = system.post(TIMED, &wrong, &input).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let place = json!(["header", "x-fal-object-lifecycle-preference"]);
    assert_eq!(refused.body["detail"][0]["loc"], place);
    let refused = system.initiate_upload("a.png", "image/png", "soon").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    system.cleanup().await;
}

#[tokio::test]
async fn an_upload_url_allows_one_upload_within_an_hour() {
    let system = System::start().await;
    let announced = system
        .initiate_upload("cat.png", "image/png", "{}")
        .await
        .body;
    let [place, url] = ["upload_url", "file_url"].map(|url| announced[url].as_str().unwrap());
    let (_, key) = url.split_once("/uploads/").unwrap();
    let key = format!("uploads/{key}");
    let place = system.path_of(place);
    let own = system.signature("write", &key, unix_s(HOUR)).await;
    let late = system
        .signature("write", &key, unix_s(Duration::ZERO))
        .await;
    let to_read = system.signature("read", &key, unix_s(HOUR)).await;
    let parts = system.signature("write-parts", &key, unix_s(HOUR)).await;
    for (path, status) in [
        (place.replace("cat.png", "dog.png"), StatusCode::FORBIDDEN),
        (
            format!("/storage/upload/{late}/{key}"),
            StatusCode::FORBIDDEN,
        ),
        (
            format!("/storage/upload/{to_read}/{key}"),
            StatusCode::FORBIDDEN,
        ),
        (
            format!("/storage/upload/{parts}/{key}"),
            StatusCode::FORBIDDEN,
        ),
        (
            format!("/storage/upload/{own}/{key}/1"),
            StatusCode::NOT_FOUND,
        ),
        (
            format!("/storage/parts/{own}/{key}/1"),
            StatusCode::FORBIDDEN,
        ),
        (
            format!("/storage/parts/{parts}/{key}/x"),
            StatusCode::NOT_FOUND,
        ),
        (
            format!("/storage/parts/{parts}/{key}/0"),
            StatusCode::BAD_REQUEST,
        ),
        (format!("/storage/upload/{key}"), StatusCode::NOT_FOUND),
        (
            system.path_of(url).to_owned(),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
    ] {
        let refused = system.http(Method::PUT, &path, &[], "x").await;
        assert_eq!(refused.status, status, "{path}: {:?}", refused.body);
        assert!(refused.body["detail"].is_string(), "{path}");
    }
    assert_eq!(files(&system), 0);
    let put = system.http(Method::PUT, place, &[], "a cat").await;
    assert_eq!(put.status, StatusCode::OK);
    assert_eq!(system.fetch(url).await.bytes, b"a cat");
    system.cleanup().await;
}

#[tokio::test]
async fn the_upload_calls_of_fals_python_client_need_a_token() {
    let system = System::start().await;
    let given = system
        .http(Method::POST, "/storage/auth/token", &[], "{}")
        .await;
    let token = given.body["token"].as_str().unwrap();
    assert_eq!(given.body["base_url"], system.router.url());
    let own = format!("Bearer {token}");
    let forged = format!("Bearer {}", token.replace('-', "0-"));
    for (path, authorization, status) in [
        ("/files/upload", "Key any", StatusCode::UNAUTHORIZED),
        ("/files/upload", token, StatusCode::UNAUTHORIZED),
        ("/files/upload", forged.as_str(), StatusCode::UNAUTHORIZED),
        ("/files/upload/multipart", "", StatusCode::UNAUTHORIZED),
        ("/files/upload", own.as_str(), StatusCode::OK),
        ("/files/upload/multipart", own.as_str(), StatusCode::OK),
    ] {
        let headers = [
            ("authorization", authorization),
            ("x-fal-file-name", "cat.png"),
        ];
        let answer = system.http(Method::POST, path, &headers, "a cat").await;
        assert_eq!(answer.status, status, "{path} {authorization}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_file_over_the_bound_is_refused_and_leaves_nothing() {
    let mut system = System::start().await;
    system.replace_router(&["--max-upload", "100KiB"]).await;
    let token = system
        .http(Method::POST, "/storage/auth/token", &[], "")
        .await;
    let token = format!("Bearer {}", token.body["token"].as_str().unwrap());
    let headers = [("authorization", token.as_str())];
    let announced = system.initiate_upload("a.bin", "", "{}").await.body;
    let place = system.path_of(announced["upload_url"].as_str().unwrap());
    let (most, too_much) = (vec![b'x'; 100 << 10], vec![b'x'; (100 << 10) + 1]);
    let ways = [(Method::PUT, place), (Method::POST, "/files/upload")];
    for (method, path) in ways.clone() {
        let body = too_much.clone();
        let refused = system.http(method, path, &headers, body).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(refused.body["detail"].as_str().unwrap().contains("102400"));
    }
    assert_eq!(files(&system), 0);
    for (method, path) in ways {
        let answer = system.http(method, path, &headers, most.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {:?}", answer.body);
    }
    assert_eq!(files(&system), 2);
    system.cleanup().await;
}

#[tokio::test]
async fn hostile_file_names_become_harmless_ones() {
    let system = System::start().await;
    let long = format!("{}.png", "x".repeat(10_000));
    for name in [
        "../../../etc/cron.d/evil.png",
        "..\\..\\evil.png",
        "/etc/passwd",
        "a\r\nX-Evil: 1\r\n.png",
        "a\0.png",
        "schön 猫 🐈.png",
        "%2e%2e%2f.png",
        "?a=b#c.png",
        ".parts",
        "",
        &long,
    ] {
        let url = system.upload(name, "image/png", name.as_bytes()).await;
        assert!(url.len() < 400, "{url}");
        assert!(url.ends_with(".png"), "{url}");
        let found = system.fetch(&url).await;
        assert_eq!(found.bytes, name.as_bytes(), "{url}");
        assert_eq!(found.headers.get("x-evil"), None);
    }
    let folder = system.testbed.folder().join("files");
    let tops: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    assert_eq!(tops.len(), 1, "all of them are uploads: {tops:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_upload_request_is_refused_with_the_reason() {
    let system = System::start().await;
    for body in ["nonsense", "[]", r#"{"file_name": 7}"#] {
        let path = "/storage/upload/initiate";
        let refused = system.http(Method::POST, path, &[], body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(refused.body["detail"].is_string());
    }
    // A file needs neither a name nor a type.
    let path = "/storage/upload/initiate-multipart";
    let answer = system.http(Method::POST, path, &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    system.cleanup().await;
}
