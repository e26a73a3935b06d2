//! URLs that strangers give, hostile ones above all, against servers on this machine.

#![allow(
    clippy::unwrap_used,
    reason = "a test's panic is its verdict, in its helpers too"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Redirect;
use axum::routing::{any, get, post};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use warmq_fetch::{Error, Fetcher};

const SOON: Duration = Duration::from_secs(10);

/// A server on every address of this machine, with a count of its requests.
struct Served {
    port: u16,
    reached: Arc<AtomicUsize>,
}

impl Served {
    async fn start() -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let counted = reached.clone();
        let routes = Router::new()
            .route(
                "/hello",
                get(|| async { ([(header::CONTENT_TYPE, "text/plain")], "hello") }),
            )
            .route("/large", get(|| async { "x".repeat(2000) }))
            .route("/endless", get(endless))
            .route(
                "/echo",
                post(|headers: HeaderMap, body: Bytes| async move { (headers, body) }),
            )
            .route("/answer/{status}", any(answer))
            .route(
                "/to/{*url}",
                any(|Path(url): Path<String>| async move { Redirect::temporary(&url) }),
            )
            .layer(axum::middleware::map_request(
                move |request: axum::extract::Request| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async move { request }
                },
            ));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { port, reached }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

async fn answer(Path(status): Path<u16>) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}

/// An endless body without a length.
async fn endless() -> Body {
    let piece = || Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1024]));
    Body::from_stream(futures::stream::repeat_with(piece))
}

fn fetcher(allowed: &str) -> Fetcher {
    Fetcher::new(allowed.parse().unwrap()).unwrap()
}

async fn posted(fetcher: &Fetcher, url: &str) -> Result<StatusCode, Error> {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{}"));
    fetcher.post(url, headers, body, SOON).await
}

#[tokio::test]
async fn this_machine_its_network_and_its_clouds_metadata_are_refused_however_they_are_spelled() {
    let served = Served::start().await;
    let nobodys = fetcher("");
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "127.255.255.254",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "%31%32%37.0.0.1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        let url = format!("http://{host}:{}/hello", served.port);
        let error = nobodys.check(&url).unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{host}: {error}");
        let error = nobodys.get(&url, 1000, SOON).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{host}: {error}");
        let error = posted(&nobodys, &url).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{host}: {error}");
    }
    assert_eq!(served.reached(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_refused_as_one_that_resolves_to_nothing() {
    let served = Served::start().await;
    let nobodys = fetcher("");
    // No label is that long, so no server has to be asked.
    let nothing = format!("{}.example", "x".repeat(64));
    for host in ["localhost", "LOCALHOST", &nothing] {
        let url = format!("http://{host}:{}/hello", served.port);
        nobodys.check(&url).unwrap();
        let sentence = format!(
            "{} has no address that may be reached from here",
            host.to_lowercase()
        );
        let error = nobodys.get(&url, 1000, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), sentence);
        let error = posted(&nobodys, &url).await.unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }
    assert_eq!(served.reached(), 0);
    let ours = fetcher("127.0.0.1");
    let url = format!("http://localhost:{}/hello", served.port);
    assert_eq!(ours.get(&url, 1000, SOON).await.unwrap().bytes, "hello");
}

#[tokio::test]
async fn allowed_addresses_are_fetched() {
    let served = Served::start().await;
    let fetched = fetcher("127.0.0.0/8")
        .get(&served.url("/hello"), 5, SOON)
        .await
        .unwrap();
    assert_eq!(fetched.bytes, "hello");
    assert_eq!(fetched.content_type.as_deref(), Some("text/plain"));
    let error = fetcher("127.0.0.0/8")
        .get(&served.url("/answer/404"), 5, SOON)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 answered 404");
}

/// A proxy would resolve names by itself, so the environment's is ignored.
#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.args(["--exact", "allowed_addresses_are_fetched"]);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
async fn each_redirect_is_checked_as_the_url_was() {
    let served = Served::start().await;
    let ours = fetcher("127.0.0.1");
    let to = |target: &str| served.url(&format!("/to/{target}"));
    let hello = served.url("/hello");
    assert_eq!(
        ours.get(&to(&hello), 1000, SOON).await.unwrap().bytes,
        "hello"
    );
    let before = served.reached();
    for (number, target) in [
        format!("http://127.0.0.2:{}/hello", served.port),
        format!("http://0x7f.2:{}/hello", served.port),
        format!("http://[::1]:{}/hello", served.port),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("//127.0.0.2:{}/hello", served.port),
    ]
    .iter()
    .enumerate()
    {
        let error = ours.get(&to(target), 1000, SOON).await.unwrap_err();
        assert!(
            matches!(error, Error::Forbidden { .. }),
            "{target}: {error}"
        );
        assert_eq!(served.reached(), before + number + 1, "{target}");
    }
    let error = ours
        .get(&to("file:///etc/passwd"), 1000, SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Scheme(_)), "{error}");
    let error = ours
        .get(&to("http://user@127.0.0.1/"), 1000, SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Credentials), "{error}");
}

#[tokio::test]
async fn three_redirects_are_followed_and_no_more() {
    let served = Served::start().await;
    let ours = fetcher("127.0.0.1");
    let hops = |count: usize| {
        (0..count).fold(served.url("/hello"), |url, _| {
            served.url(&format!("/to/{url}"))
        })
    };
    assert_eq!(ours.get(&hops(3), 1000, SOON).await.unwrap().bytes, "hello");
    let error = ours.get(&hops(4), 1000, SOON).await.unwrap_err();
    assert!(matches!(error, Error::Redirects(3)), "{error}");
}

#[tokio::test]
async fn a_post_returns_the_status_and_follows_no_redirect() {
    let served = Served::start().await;
    let ours = fetcher("127.0.0.1");
    for status in [200, 204, 302, 404, 500] {
        let answer = posted(&ours, &served.url(&format!("/answer/{status}"))).await;
        assert_eq!(answer.unwrap().as_u16(), status);
    }
    let before = served.reached();
    let answer = posted(&ours, &served.url(&format!("/to/{}", served.url("/echo")))).await;
    assert_eq!(answer.unwrap(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(served.reached(), before + 1);
}

#[tokio::test]
async fn no_more_is_read_than_was_asked_for() {
    let served = Served::start().await;
    let ours = fetcher("127.0.0.1");
    let large = served.url("/large");
    assert_eq!(
        ours.get(&large, 2000, SOON).await.unwrap().bytes.len(),
        2000
    );
    for url in [large, served.url("/endless")] {
        let error = ours.get(&url, 1999, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1999 bytes");
    }
}

#[tokio::test]
async fn a_host_that_is_silent_or_slow_is_given_up_in_time() {
    let ours = fetcher("127.0.0.1");
    let patience = Duration::from_millis(300);
    for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nslo"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                // A response before the request would be invalid.
                let asked = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(asked > 0);
                stream.write_all(beginning.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        let asked = Instant::now();
        let error = ours.get(&url, 1000, patience).await.unwrap_err();
        assert!(matches!(error, Error::Timeout), "{beginning}: {error:?}");
        assert!(asked.elapsed() < SOON);
        if beginning.is_empty() {
            let headers = HeaderMap::new();
            let error = ours
                .post(&url, headers, Bytes::new(), patience)
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Timeout), "{error}");
        }
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_urls_host() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/?token=secret", listener.local_addr().unwrap());
    drop(listener);
    let error = posted(&fetcher("127.0.0.1"), &url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no connection to 127.0.0.1 could be made"
    );
}

#[tokio::test]
async fn other_schemes_are_refused_before_resolution() {
    let nobodys = fetcher("0.0.0.0/0,::/0");
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:text/plain,hi",
        "javascript:alert(1)",
        "unix:/run/docker.sock",
    ] {
        assert!(matches!(nobodys.check(url), Err(Error::Scheme(_))), "{url}");
    }
    for url in [
        "http://user@example.com/",
        "http://user:word@example.com/",
        "http://:word@example.com/",
    ] {
        assert!(
            matches!(nobodys.check(url), Err(Error::Credentials)),
            "{url}"
        );
    }
    for url in [
        "",
        "example.com",
        "http://",
        "http://[::1",
        "http://256.256.256.256/",
        "http://a b/",
        "//example.com",
    ] {
        assert!(matches!(nobodys.check(url), Err(Error::Url(_))), "{url}");
    }
    let long = format!("http://example.com/{}", "x".repeat(3000));
    assert!(matches!(nobodys.check(&long), Err(Error::TooLong)));
    nobodys
        .check("https://example.com:8443/path?query#fragment")
        .unwrap();
}
