//! A real server on a free port that misbehaves as the input of a job demands.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What the server saw and does besides.
#[derive(Default)]
pub struct Behaviour {
    /// Method and path of each request but probes.
    pub requests: Mutex<Vec<String>>,
    /// Headers of all responses.
    pub headers: Mutex<Vec<(String, Vec<u8>)>>,
    /// Body of `GET /hints`; 404 without.
    pub hints: Mutex<Option<String>>,
    /// JSON of `GET /models` and `GET /openapi.json`; 404 without.
    pub models: Mutex<Option<Value>>,
    pub openapi: Mutex<Option<Value>>,
    /// Status of `GET /health`; 0 means 200.
    pub health: AtomicU16,
    /// Whether probes are never answered.
    pub hangs: AtomicBool,
    /// Number of jobs that were posted.
    pub jobs: AtomicUsize,
    /// Number of connections that the client closed before the response.
    pub closed: AtomicUsize,
    /// Jobs that run now, and at most at a time.
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
}

impl Behaviour {
    pub fn set_header(&self, name: &str, value: impl Into<Vec<u8>>) {
        let mut headers = self.headers.lock().unwrap();
        headers.retain(|(known, _)| known != name);
        headers.push((name.to_owned(), value.into()));
    }

    pub fn remove_header(&self, name: &str) {
        self.headers
            .lock()
            .unwrap()
            .retain(|(known, _)| known != name);
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A running server; it dies when it is dropped.
pub struct Stub {
    pub address: SocketAddr,
    pub behaviour: Arc<Behaviour>,
    task: JoinHandle<()>,
}

impl Stub {
    pub async fn start() -> Self {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        Self::start_at(any, Arc::default()).await
    }

    pub async fn start_at(address: SocketAddr, behaviour: Arc<Behaviour>) -> Self {
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.set_reuseaddr(true).unwrap();
        listener.bind(address).unwrap();
        let listener = listener.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .fallback(respond)
            .with_state(behaviour.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            behaviour,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the server, as a crash does, and returns what starts it again.
    pub async fn kill(mut self) -> (SocketAddr, Arc<Behaviour>) {
        self.task.abort();
        // It was cancelled.
        let _ = (&mut self.task).await;
        (self.address, self.behaviour.clone())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    State(behaviour): State<Arc<Behaviour>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    let mut response = match (method, path) {
        (Method::GET, "/health") => {
            if behaviour.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            status(behaviour.health.load(Ordering::SeqCst))
        }
        (Method::GET, "/hints") => match behaviour.hints.lock().unwrap().clone() {
            Some(hints) => hints.into_response(),
            None => status(404),
        },
        (Method::GET, "/models") => listed(&behaviour.models),
        (Method::GET, "/openapi.json") => listed(&behaviour.openapi),
        (method, path) => {
            let request = format!("{method} {path}");
            behaviour.requests.lock().unwrap().push(request);
            match path.starts_with("/cancel/") {
                true => status(200),
                false => run(&behaviour, path, &headers, &body).await,
            }
        }
    };
    for (name, value) in behaviour.headers.lock().unwrap().iter() {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_bytes(value).unwrap();
        response.headers_mut().insert(name, value);
    }
    response
}

fn listed(list: &Mutex<Option<Value>>) -> Response {
    match list.lock().unwrap().clone() {
        Some(list) => axum::Json(list).into_response(),
        None => status(404),
    }
}

fn status(code: u16) -> Response {
    let code = if code == 0 { 200 } else { code };
    axum::http::StatusCode::from_u16(code)
        .unwrap()
        .into_response()
}

/// Counts a running job until dropped.
struct Running<'b>(&'b Behaviour, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.closed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn run(behaviour: &Behaviour, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    let job = behaviour.jobs.fetch_add(1, Ordering::SeqCst);
    let now = behaviour.running.fetch_add(1, Ordering::SeqCst) + 1;
    behaviour.most_running.fetch_max(now, Ordering::SeqCst);
    let mut running = Running(behaviour, false);
    let input: Value = serde_json::from_slice(body).unwrap();
    if let Some(ms) = input["sleep_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    running.1 = true;
    let fails = input["fails"].as_u64().unwrap_or(u64::MAX);
    if job as u64 >= fails {
        return axum::Json(json!({"jobs": job + 1})).into_response();
    }
    let content_type = |value: &'static str| [("content-type", value)];
    match input["do"].as_str().unwrap_or("echo") {
        "echo" => {
            let names = headers.iter();
            let headers: serde_json::Map<String, Value> = names
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").into()))
                .collect();
            axum::Json(json!({"path": path, "input": input, "headers": headers})).into_response()
        }
        "respond" => {
            let code = u16::try_from(input["status"].as_u64().unwrap_or(200)).unwrap();
            let mut response = match &input["body"] {
                Value::String(text) => text.clone().into_response(),
                body => axum::Json(body.clone()).into_response(),
            };
            *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
            for (name, value) in input["headers"].as_object().into_iter().flatten() {
                let name: HeaderName = name.parse().unwrap();
                let value = value.as_str().unwrap().parse().unwrap();
                response.headers_mut().insert(name, value);
            }
            response
        }
        "events" => {
            let events = input["events"].as_array().unwrap().clone();
            let events = stream::iter(events).then(async |event| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, Infallible>(format!("data: {event}\n\n"))
            });
            let body = Body::from_stream(events.boxed());
            (content_type("text/event-stream"), body).into_response()
        }
        "picture" => (content_type("image/png"), b"\x89PNG".to_vec()).into_response(),
        "endless" => {
            let piece = Bytes::from(vec![b' '; 1 << 20]);
            let pieces = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
            (content_type("application/json"), Body::from_stream(pieces)).into_response()
        }
        "announce_10_gb" => {
            let nothing = stream::pending::<Result<Bytes, Infallible>>();
            let length = [("content-length", "10737418240")];
            (length, Body::from_stream(nothing)).into_response()
        }
        "half" => {
            let pieces = [
                Ok(Bytes::from("{\"a\": ")),
                Err(std::io::Error::other("broken on demand")),
            ];
            let body = Body::from_stream(stream::iter(pieces));
            (content_type("application/json"), body).into_response()
        }
        other => panic!("cannot {other}"),
    }
}
