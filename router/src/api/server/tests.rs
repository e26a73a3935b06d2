//! Hostile clients at real sockets, with short timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use futures::future::join_all;
use futures::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

/// Timeout of each test's waits, long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

const SHORT: Duration = Duration::from_millis(300);

fn limits() -> ServerLimits {
    ServerLimits::new(100)
}

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

/// Serves `/healthz`, `/wait` (never responds), `/echo` and `more`.
async fn serve(limits: ServerLimits, tls: Option<Tls>, more: Router) -> Served {
    let routes = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/wait", get(std::future::pending::<()>))
        .route("/echo", post(async |body: Bytes| body))
        .merge(more);
    let server = Server::bind(([127, 0, 0, 1], 0).into(), tls, limits)
        .await
        .unwrap();
    let address = server.address().unwrap();
    let shutdown = CancellationToken::new();
    Served {
        address,
        served: tokio::spawn(server.serve(routes, TIMEOUT, shutdown.clone())),
        shutdown,
    }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request on a new connection, and returns the response.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        rest(&mut client).await
    }

    /// Asserts that it serves requests.
    async fn assert_serves(&self) {
        let answer = self.ask("GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n");
        assert!(answer.await.starts_with("HTTP/1.1 200"));
    }
}

/// Reads until the server closes the connection, which it must.
async fn rest(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset ends it as well.
    let read = tokio::time::timeout(TIMEOUT, client.read_to_end(&mut answer));
    let _ = read.await.expect("the server closes the connection");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_is_disconnected_and_delays_no_other() {
    let limits = ServerLimits {
        head: SHORT,
        ..limits()
    };
    let served = serve(limits, None, Router::new()).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = served.connect().await;
        client
            .write_all(b"GET /healthz HTTP/1.1\r\nx-")
            .await
            .unwrap();
        clients.push(client);
    }
    served.assert_serves().await;
    for mut client in clients {
        assert_eq!(rest(&mut client).await, "");
    }
}

#[tokio::test]
async fn a_silent_client_is_disconnected_before_and_after_a_request() {
    let limits = ServerLimits {
        idle: SHORT,
        ..limits()
    };
    let served = serve(limits, None, Router::new()).await;
    assert_eq!(served.ask("").await, "");
    let answer = served.ask("GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn a_slow_handler_has_no_timeout() {
    let slowly = async || {
        tokio::time::sleep(SHORT * 4).await;
        "done"
    };
    let limits = ServerLimits {
        head: SHORT,
        idle: SHORT,
        body: SHORT,
        ..limits()
    };
    let served = serve(limits, None, Router::new().route("/slow", get(slowly))).await;
    let answer = served.ask("GET /slow HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
}

/// Sends a body of `bytes` and returns the answer's status line.
async fn upload(served: &Served, path: &str, bytes: usize) -> String {
    let (mut receiver, mut sender) = served.connect().await.into_split();
    let head =
        format!("POST {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n");
    let sending = tokio::spawn(async move {
        sender.write_all(head.as_bytes()).await?;
        for _ in 0..bytes >> 20 {
            sender.write_all(&[0; 1 << 20]).await?;
        }
        Ok::<_, io::Error>(sender)
    });
    let answer = rest(&mut receiver).await;
    // It may have been refused before its end.
    drop(sending.await);
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn streamed_bodies_occupy_only_their_buffers() {
    let limits = ServerLimits {
        bodies: 3 * warmq_objects::WRITE_BUFFER_BYTES,
        ..limits()
    };
    let passing = post(async |Streamed(body): Streamed| {
        let mut parts = body.into_data_stream();
        let mut bytes = 0;
        while let Some(Ok(part)) = parts.next().await {
            bytes += part.len();
        }
        bytes.to_string()
    });
    let more = Router::new().route("/pass", passing);
    let served = serve(limits, None, more.layer(DefaultBodyLimit::disable())).await;
    let size = 40 << 20;
    let three = [(); 3].map(|()| upload(&served, "/pass", size));
    for answer in join_all(three).await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    served.assert_serves().await;
}

#[tokio::test]
async fn a_client_that_sends_half_a_body_receives_an_error() {
    let limits = ServerLimits {
        body: SHORT,
        ..limits()
    };
    let served = serve(limits, None, Router::new()).await;
    let answer = served.ask("POST /echo HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf");
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/json"), "{answer}");
    assert!(answer.contains("request_body_timeout"), "{answer}");
}

#[tokio::test]
async fn an_endless_head_is_rejected() {
    let served = serve(limits(), None, Router::new()).await;
    let long = "x".repeat(limits::HEAD_BYTES);
    let request = format!("GET /healthz HTTP/1.1\r\nx: {long}\r\n\r\n");
    assert!(served.ask(&request).await.starts_with("HTTP/1.1 431 "));
    let many = "x: y\r\n".repeat(200);
    let request = format!("GET /healthz HTTP/1.1\r\n{many}\r\n");
    assert!(served.ask(&request).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn excess_connections_receive_503_and_liveness_is_served() {
    let limits = ServerLimits {
        connections: 1,
        ..limits()
    };
    let served = serve(limits, None, Router::new()).await;
    let mut waiting = served.connect().await;
    waiting
        .write_all(b"GET /wait HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    // Connections are accepted in order.
    let refused = served.ask("POST /echo HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    let refused = refused.await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: "), "{refused}");
    let alive = served.ask("GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
    drop(waiting);
    let echo = "POST /echo HTTP/1.1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    let served_again = async {
        while !served.ask(echo).await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, served_again).await.unwrap();
}

/// Records its drop.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns a route whose response repeats `part` without end, and whether a response was dropped.
fn endless(part: Option<Bytes>) -> (Router, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let flag = gone.clone();
    let answer = move || {
        let (dropped, part) = (Dropped(flag.clone()), part.clone());
        let parts = stream::unfold(dropped, move |dropped| {
            let part = part.clone();
            async move {
                match part {
                    Some(part) => Some((Ok::<_, io::Error>(part), dropped)),
                    None => std::future::pending().await,
                }
            }
        });
        async move { Body::from_stream(parts) }
    };
    (Router::new().route("/endless", get(answer)), gone)
}

async fn wait_for(gone: &AtomicBool) {
    let noticed = async {
        while !gone.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, noticed).await.unwrap();
}

#[tokio::test]
async fn a_client_that_receives_nothing_is_disconnected() {
    let limits = ServerLimits {
        stalled: Duration::from_secs(1),
        ..limits()
    };
    let (route, gone) = endless(Some(Bytes::from(vec![0; 1 << 20])));
    let served = serve(limits, None, route).await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /endless HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    wait_for(&gone).await;
}

#[tokio::test]
async fn a_waiting_response_ends_with_its_client() {
    let (tls, connector) = certified();
    for tls in [None, Some(tls)] {
        let (route, gone) = endless(None);
        let encrypted = tls.is_some();
        let served = serve(limits(), tls, route).await;
        let ask = b"GET /endless HTTP/1.1\r\n\r\n";
        let mut head = [0; 15];
        if encrypted {
            let mut client = shake_hands(&served, &connector).await;
            client.write_all(ask).await.unwrap();
            client.read_exact(&mut head).await.unwrap();
        } else {
            let mut client = served.connect().await;
            client.write_all(ask).await.unwrap();
            client.read_exact(&mut head).await.unwrap();
        }
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        wait_for(&gone).await;
    }
}

#[tokio::test]
async fn at_shutdown_silent_clients_are_disconnected_and_responses_completed() {
    let slowly = async || {
        tokio::time::sleep(LAST_REQUEST_GRACE * 3).await;
        "done"
    };
    let served = serve(limits(), None, Router::new().route("/slow", get(slowly))).await;
    let mut silent = served.connect().await;
    let mut kept = served.connect().await;
    kept.write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    kept.read_exact(&mut head).await.unwrap();
    let mut asking = served.connect().await;
    asking
        .write_all(b"GET /slow HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    served.assert_serves().await;
    served.shutdown.cancel();
    assert_eq!(rest(&mut silent).await, "");
    assert!(rest(&mut kept).await.ends_with("ok"));
    assert!(rest(&mut asking).await.ends_with("done"));
    served.served.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

/// A certificate for 127.0.0.1, and a client that trusts it.
fn certified() -> (Tls, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Tls::read(&certificate, &key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (tls, TlsConnector::from(Arc::new(client)))
}

async fn shake_hands(served: &Served, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = served.connect().await;
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn a_stalled_handshake_delays_no_other() {
    let (tls, connector) = certified();
    let limits = ServerLimits {
        handshake: SHORT,
        ..limits()
    };
    let served = serve(limits, Some(tls), Router::new()).await;
    let mut silent = served.connect().await;
    let mut halting = served.connect().await;
    // The beginning of a ClientHello.
    halting.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
    let mut client = shake_hands(&served, &connector).await;
    let ask = b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n";
    client.write_all(ask).await.unwrap();
    assert!(rest(&mut client).await.ends_with("ok"));
    for slow in [&mut silent, &mut halting] {
        assert_eq!(rest(slow).await, "");
    }
    // A plain HTTP client is not served, and affects no other.
    let plain = served.ask("GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1 200"), "{plain}");
    shake_hands(&served, &connector).await;
}

#[tokio::test]
async fn a_stalled_handshake_does_not_delay_shutdown() {
    let (tls, _) = certified();
    let limits = ServerLimits {
        handshake: TIMEOUT * 3,
        ..limits()
    };
    let served = serve(limits, Some(tls), Router::new()).await;
    let mut silent = served.connect().await;
    served.shutdown.cancel();
    tokio::time::timeout(TIMEOUT, served.served)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest(&mut silent).await, "");
}
