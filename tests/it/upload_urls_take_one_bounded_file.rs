//! An upload URL takes one file, within a time and a size, and any other use is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use warmq_tests::System;
use warmq_tests::files::unix_s;

const HOUR: Duration = Duration::from_secs(3600);

/// Counts the files of the storage, parts and incomplete ones included, without the router's own.
fn files(system: &System) -> usize {
    fn count(path: &Path) -> usize {
        match path.is_dir() {
            true => entries(path).iter().map(|path| count(path)).sum(),
            false => 1,
        }
    }
    count(&system.testbed.folder().join("files"))
}

/// Returns what is in a folder, without the ids of installations.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.ends_with(".installations"))
        .collect()
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
    let tops = entries(&system.testbed.folder().join("files"));
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
