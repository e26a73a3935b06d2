//! Measures what the queue adds to a job of a model server: the time from its submission to its
//! arrival at the server, against a request that is sent to the server directly.
//!
//! The server is a task of this process, so that both ends of a job are on one clock. Jobs run one
//! at a time and end at once: RabbitMQ, Redis, a router and a worker are between.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use warmq_testkit::{Deployment, Testbed, WorkerOptions};

use super::until_idle;
use crate::args::HttpOptions;
use crate::routes::client::SubmitClient;
use crate::routes::times::Times;
use crate::simulator::quantile;

const APP: &str = "bench/server";

/// Response of the server, which closes each connection.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// Size limit of a request, bytes.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Jobs before the first measured one.
const WARM_UP_JOBS: u64 = 20;

/// Measures and prints.
pub(super) async fn measure(options: &HttpOptions) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let testbed = Testbed::builder().start().await?;
    let upstream = format!("--upstream={}", server.url);
    let worker = WorkerOptions::of("http", "server", APP).args([upstream]);
    let deployment = Deployment::start(&testbed, [worker]).await?;
    until_idle(&testbed, APP).await?;
    let measured = rounds(options, &server, deployment.router.url()).await;
    deployment.stop().await;
    testbed.cleanup().await?;
    measured
}

async fn rounds(options: &HttpOptions, server: &Server, router: &str) -> anyhow::Result<()> {
    let client = SubmitClient::new(router);
    queued(&client, server, WARM_UP_JOBS).await?;
    let mut added_ms = Vec::new();
    println!("ms until the job is at the server   p50     p95     p99");
    for round in 1..=options.rounds {
        let direct = direct(server, options.jobs).await?.quantiles();
        let queued = queued(&client, server, options.jobs).await?.quantiles();
        for (name, times) in [("directly", direct), ("by the queue", queued)] {
            println!(
                "round {round}, {name:<20} {:>9.2} {:>7.2} {:>7.2}",
                times.p50_ms, times.p95_ms, times.p99_ms
            );
        }
        added_ms.push(queued.p50_ms - direct.p50_ms);
    }
    added_ms.sort_by(f64::total_cmp);
    println!(
        "added by the queue, median of {} rounds of {} jobs: {:.2} ms (goal: < 3 ms)",
        options.rounds,
        options.jobs,
        quantile(&added_ms, 0.5)
    );
    Ok(())
}

/// Sends jobs to the server itself, each over a new connection as the worker does.
async fn direct(server: &Server, jobs: u64) -> anyhow::Result<Times> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()?;
    let mut times = Times::default();
    for _ in 0..jobs {
        let begun = Instant::now();
        let request = client.post(&server.url).json(&json!({"prompt": "a cat"}));
        request.send().await?.error_for_status()?.bytes().await?;
        times.push(server.last_arrival_since(begun)?);
    }
    Ok(times)
}

/// Sends jobs through the queue.
async fn queued(client: &SubmitClient, server: &Server, jobs: u64) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for _ in 0..jobs {
        let begun = Instant::now();
        client.run(APP, &json!({"prompt": "a cat"})).await?;
        times.push(server.last_arrival_since(begun)?);
    }
    Ok(times)
}

/// A server that responds at once and records when the latest job arrived.
struct Server {
    url: String,
    arrived: Arc<Mutex<Option<Instant>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let arrived = Arc::new(Mutex::new(None));
        let task = tokio::spawn(accept(listener, arrived.clone()));
        Ok(Self { url, arrived, task })
    }

    /// Returns the time from `begun` to the latest job's arrival, ms.
    fn last_arrival_since(&self, begun: Instant) -> anyhow::Result<f64> {
        let arrived = *self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let arrived = arrived.filter(|arrived| *arrived > begun);
        let arrived = arrived.context("the job did not reach the server")?;
        Ok((arrived - begun).as_secs_f64() * 1000.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, arrived: Arc<Mutex<Option<Instant>>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            // A client that disconnects ends only its request.
            let _ = respond(connection, &arrived).await;
        });
    }
}

/// Reads one request and responds. A job's body arrives in one piece with its headers, or in the
/// next one.
async fn respond(
    mut connection: TcpStream,
    arrived: &Mutex<Option<Instant>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        if connection.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let is_job = request.starts_with(b"POST");
        let has_headers = request.windows(4).any(|end| end == b"\r\n\r\n");
        let has_body = !is_job || request.ends_with(b"}");
        if (has_headers && has_body) || request.len() > MAX_REQUEST_BYTES {
            if is_job {
                let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
                *arrived = Some(Instant::now());
            }
            break;
        }
    }
    connection.write_all(RESPONSE).await?;
    connection.shutdown().await
}
