//! A signed URL reads its file until it expires, nothing else does, and no browser executes its
//! content.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmq_tests::System;
use warmq_tests::files::unix_s;
use warmq_tests::system::TIMEOUT;

const HOUR: Duration = Duration::from_secs(3600);

/// Splits a URL into its signature and its key.
fn parts(url: &str) -> (String, String) {
    let (_, rest) = url.split_once("/files/").unwrap();
    let (signature, key) = rest.split_once('/').unwrap();
    (signature.to_owned(), key.to_owned())
}

#[tokio::test]
async fn only_a_signed_url_reads_its_file() {
    let system = System::start().await;
    let url = system.upload("cat.png", "image/png", b"a cat").await;
    let other = system.upload("dog.png", "image/png", b"a dog").await;
    let found = system.fetch(&url).await;
    assert_eq!(
        (found.status, &*found.bytes),
        (StatusCode::OK, &b"a cat"[..])
    );

    let ((signature, key), (_, other_key)) = (parts(&url), parts(&other));
    let (expires, mac) = signature.split_once('-').unwrap();
    let later: u64 = expires.parse::<u64>().unwrap() + 1;
    let to_write = system.signature("write", &key, unix_s(HOUR)).await;
    for (path, status) in [
        (format!("/files/{key}"), StatusCode::NOT_FOUND),
        (format!("/files/{signature}"), StatusCode::NOT_FOUND),
        (format!("/files/-/{key}"), StatusCode::NOT_FOUND),
        (format!("/files/{expires}-/{key}"), StatusCode::FORBIDDEN),
        (
            format!("/files/{signature}/{other_key}"),
            StatusCode::FORBIDDEN,
        ),
        (format!("/files/{signature}/{key}x"), StatusCode::FORBIDDEN),
        (format!("/files/{later}-{mac}/{key}"), StatusCode::FORBIDDEN),
        (format!("/files/{to_write}/{key}"), StatusCode::FORBIDDEN),
    ] {
        let refused = system.get(&path).await;
        assert_eq!(refused.status, status, "{path}");
        assert!(refused.body["detail"].is_string(), "{path}");
    }
    // The helper's signatures are valid, so the refusals above are due to the changes.
    let own = system.signature("read", &key, unix_s(HOUR)).await;
    let found = system.get(&format!("/files/{own}/{key}")).await;
    assert_eq!(found.status, StatusCode::OK);
    let missing = key.replace("cat", "cow");
    let own = system.signature("read", &missing, unix_s(HOUR)).await;
    let answer = system.get(&format!("/files/{own}/{missing}")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    system.cleanup().await;
}

#[tokio::test]
async fn a_link_expires_as_requested_with_a_clear_error() {
    let system = System::start().await;
    let second = r#"{"expiration_duration_seconds": 1}"#;
    let announced = system
        .initiate_upload("a.png", "image/png", second)
        .await
        .body;
    let url = announced["file_url"].as_str().unwrap();
    let place = system.path_of(announced["upload_url"].as_str().unwrap());
    let put = system.http(Method::PUT, place, &[], "a").await;
    assert_eq!(put.status, StatusCode::OK);
    let refused =
        async || Some(system.fetch(url).await).filter(|answer| !answer.status.is_success());
    let refused = system.until("the url expires", TIMEOUT, refused).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let reported = refused.body["detail"].as_str().unwrap();
    assert!(reported.contains("expired"), "{reported}");
    system.cleanup().await;
}

#[tokio::test]
async fn cache_lifetime_is_that_of_the_link() {
    let system = System::start().await;
    let minute = r#"{"expiration_duration_seconds": 60}"#;
    let announced = system
        .initiate_upload("a.png", "image/png", minute)
        .await
        .body;
    let place = system.path_of(announced["upload_url"].as_str().unwrap());
    system.http(Method::PUT, place, &[], "a").await;
    let found = system.fetch(announced["file_url"].as_str().unwrap()).await;
    let reported = found.headers["cache-control"].to_str().unwrap();
    let (_, age) = reported.split_once("max-age=").unwrap();
    let age: u64 = age.split(',').next().unwrap().parse().unwrap();
    assert!(age <= 60, "{reported}");
    system.cleanup().await;
}

/// Sends a path verbatim, which HTTP clients would normalise; returns status and body.
async fn raw(system: &System, path: &str) -> (u16, String) {
    let address = system.router.url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn signed_paths_cannot_escape_the_storage() {
    let system = System::start().await;
    system.upload("a.png", "image/png", b"a").await;
    std::fs::write(system.testbed.folder().join("secret"), "hidden").unwrap();
    for (sent, meant) in [
        ("../secret", "../secret"),
        ("%2e%2e/secret", "../secret"),
        ("..%2fsecret", "../secret"),
        ("uploads/../../secret", "uploads/../../secret"),
        ("uploads/%2e%2e/%2e%2e/secret", "uploads/../../secret"),
        ("uploads/..%5c..%5csecret", "uploads/..\\..\\secret"),
        ("/etc/passwd", "/etc/passwd"),
        ("%2fetc%2fpasswd", "/etc/passwd"),
        ("uploads/a%00.png", "uploads/a\0.png"),
        ("uploads/%ff", "uploads/\u{ff}"),
        ("uploads/a%0d%0aX-Evil:%201", "uploads/a\r\nX-Evil: 1"),
    ] {
        for signed in [sent, meant] {
            let signature = system.signature("read", signed, unix_s(HOUR)).await;
            let (status, answer) = raw(&system, &format!("/files/{signature}/{sent}")).await;
            assert!((400..500).contains(&status), "{sent}: {answer}");
            assert!(answer.contains("\"detail\""), "{sent}: {answer}");
            assert!(!answer.contains("hidden"), "{sent}: {answer}");
            assert!(
                !answer.to_ascii_lowercase().contains("\r\nx-evil"),
                "{sent}"
            );
        }
    }
    system.cleanup().await;
}

#[tokio::test]
async fn files_are_served_without_executable_types() {
    let system = System::start().await;
    let page = b"<script>alert(1)</script>";
    for (name, content_type, served) in [
        ("page.html", "text/html", "application/octet-stream"),
        (
            "page",
            "text/html; charset=utf-8",
            "application/octet-stream",
        ),
        ("drawing.svg", "image/svg+xml", "application/octet-stream"),
        ("code.js", "text/javascript", "application/octet-stream"),
        (
            "feed.xml",
            "application/xhtml+xml",
            "application/octet-stream",
        ),
        ("page.html", "image/png", "image/png"),
        ("page.png", "text/html", "image/png"),
        ("data.json", "application/json", "application/json"),
        ("a.jpeg", "image/jpeg", "image/jpeg"),
    ] {
        let url = system.upload(name, content_type, page).await;
        let found = system.fetch(&url).await;
        let header = |name: &str| found.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-type"), Some(served), "{name}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
        let policy = header("content-security-policy").unwrap();
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"));
        let is_picture = served.starts_with("image/");
        let shown = header("content-disposition").is_none();
        assert_eq!(shown, is_picture, "{name}");
        assert_eq!(header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(found.bytes, page);
    }
    system.cleanup().await;
}

#[tokio::test]
async fn head_returns_the_size_of_a_file() {
    let system = System::start().await;
    let url = system.upload("a.png", "image/png", &[7; 100_000]).await;
    let head = system
        .http(Method::HEAD, system.path_of(&url), &[], "")
        .await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers["content-length"], "100000");
    assert!(head.bytes.is_empty());
    system.cleanup().await;
}
