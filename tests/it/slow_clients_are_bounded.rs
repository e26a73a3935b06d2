//! Deliberately slow clients, at a router with default settings. The tests beside the server cover
//! each limit in less time.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmq_testkit::eventually;
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};

async fn connect(system: &System) -> TcpStream {
    let address = system.router.url().strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn slow_request_heads_are_disconnected_and_block_no_other_client() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let began = Instant::now();
    let mut dripping = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = connect(&system).await;
        dripping.spawn(async move {
            client
                .write_all(b"GET /healthz HTTP/1.1\r\n")
                .await
                .unwrap();
            let (mut answers, mut writer) = client.split();
            let drip = async {
                while writer.write_all(b"x: y\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let mut answer = Vec::new();
            tokio::select! {
                () = drip => {}
                // Closed or reset.
                _ = answers.read_to_end(&mut answer) => {}
            }
            answer
        });
    }
    system.succeeded(system.submit("m", 1).await).await;
    while let Some(answer) = dripping.join_next().await {
        assert_eq!(answer.unwrap(), b"");
    }
    // The limit is 10 s, and each client sends something every second.
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    system.cleanup().await;
}

#[tokio::test]
async fn closing_a_stream_frees_its_slot() {
    let mut system = System::with_config("[apps.'bench/timed']").await;
    system.replace_router(&["--max-connections", "1"]).await;
    // Only the client's own keep-alive connection is left.
    let id = system.submit("m", 1).await;
    let path = format!("/queue/{TIMED}/requests/{id}/status/stream");
    let url = format!("{}{path}", system.router.url());
    let refused = reqwest::get(&url).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let alive = reqwest::get(format!("{}/healthz", system.router.url())).await;
    assert_eq!(alive.unwrap().status(), StatusCode::OK);
    system.drop_connections();
    // Each stream is dropped after its first event; if its slot were kept, the next one would fail.
    for _ in 0..3 {
        let served = async || {
            let mut answer = reqwest::get(&url).await.unwrap();
            let first = answer.chunk().await.unwrap();
            (answer.status() == StatusCode::OK && first.is_some()).then_some(())
        };
        eventually("there is room for a stream", TIMEOUT, served)
            .await
            .unwrap();
    }
    system.cleanup().await;
}
