//! The system under test: a testbed with one router, and an HTTP client that fails tests by panics.
//!
//! The testbed starts processes and returns errors, for the benchmarks and the demo as well. The
//! system adds what only tests need.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_broker::Topology;
use warmq_testkit::{Certificates, Proxy, Router, Testbed, Worker, WorkerOptions, eventually};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobRecord;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;

use crate::metrics::Page;

/// The app of the `timed` workers.
pub const TIMED: &str = "bench/timed";

/// Timeout of whatever is not meant to be slow, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A testbed with a running router.
pub struct System {
    /// The namespace and its servers.
    pub testbed: Testbed,
    /// The router under test.
    pub router: Router,
    http: reqwest::Client,
}

/// An HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body, if it is JSON; otherwise null.
    pub body: Value,
    /// The raw body.
    pub bytes: Vec<u8>,
}

impl HttpResponse {
    /// Returns the id of the accepted job.
    pub fn job_id(&self) -> JobId {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        self.body["request_id"].as_str().unwrap().parse().unwrap()
    }
}

impl System {
    /// Starts a router with an empty configuration.
    pub async fn start() -> Self {
        Self::with_config("").await
    }

    /// Starts a router with this warmq.toml.
    pub async fn with_config(toml: &str) -> Self {
        Self::of(Testbed::builder().config(toml).start().await.unwrap()).await
    }

    /// Starts a router that serves HTTPS, and a client that trusts it.
    pub async fn secured(toml: &str, certificates: &Certificates) -> Self {
        let trusted = std::fs::read(certificates.authority()).unwrap();
        let trusted = reqwest::Certificate::from_pem(&trusted).unwrap();
        let testbed = Testbed::builder().config(toml);
        let testbed = testbed.trusted_authority(certificates.authority());
        let testbed = testbed.start().await.unwrap();
        let [certificate, key] =
            [certificates.certificate(), certificates.key()].map(|path| path.to_str().unwrap());
        let https = ["--tls-cert", certificate, "--tls-key", key];
        Self {
            router: testbed.router(&https).await.unwrap(),
            testbed,
            http: reqwest::Client::builder()
                .tls_certs_only([trusted])
                .build()
                .unwrap(),
        }
    }

    /// Starts a router on this testbed.
    pub async fn of(testbed: Testbed) -> Self {
        Self {
            router: testbed.router(&[]).await.unwrap(),
            testbed,
            http: reqwest::Client::new(),
        }
    }

    /// Replaces the router by one whose `flag` (`--amqp-url`, …) leads through the proxy.
    pub async fn connect_through(&mut self, flag: &str, proxy: &Proxy) {
        let url = proxy.url();
        self.router = self.testbed.router(&[flag, url.expose()]).await.unwrap();
    }

    /// Waits until `queue` has at least `messages` ready messages.
    pub async fn until_depth(&self, queue: &str, messages: u32) {
        let channel = self.testbed.publisher().channel().await.unwrap();
        self.until(
            &format!("{queue} has {messages} messages"),
            TIMEOUT,
            async || {
                let depth = Topology::depth(&channel, queue).await.unwrap();
                (depth >= messages).then_some(())
            },
        )
        .await;
    }

    /// Closes keep-alive connections.
    pub fn drop_connections(&mut self) {
        self.http = reqwest::Client::new();
    }

    /// Stops the router and starts another, with these flags.
    pub async fn replace_router(&mut self, args: &[&str]) {
        self.router.stop(TIMEOUT).await.unwrap();
        self.router = self.testbed.router(args).await.unwrap();
    }

    /// Deletes what the namespace left on the servers. Dropping the handles kills the processes.
    pub async fn cleanup(self) {
        let Self {
            testbed, router, ..
        } = self;
        drop(router);
        testbed.cleanup().await.unwrap();
    }

    /// Starts a worker of [`TIMED`].
    pub async fn timed_worker(&self, name: &str) -> Worker {
        self.worker(WorkerOptions::timed(name, TIMED)).await
    }

    /// Starts a worker.
    pub async fn worker(&self, options: WorkerOptions) -> Worker {
        self.testbed.worker(options).await.unwrap()
    }

    /// Sends one HTTP request to the router.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> HttpResponse {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.router.url()))
            .body(body);
        for (name, value) in headers {
            // Raw bytes: reqwest would refuse UTF-8 in a `&str` header.
            let value = reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request = request.header(*name, value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        HttpResponse {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            bytes,
        }
    }

    /// Sends `GET path`.
    pub async fn get(&self, path: &str) -> HttpResponse {
        self.http(Method::GET, path, &[], "").await
    }

    /// Returns whether the router dispatches [`TIMED`].
    pub async fn is_leader(&self) -> bool {
        let page = String::from_utf8(self.get("/metrics").await.bytes).unwrap();
        Page::read(&page).get("warmq_leader", &[("app", TIMED)]) == Some(1.0)
    }

    /// Submits to `app` by HTTP; the response may be an error.
    pub async fn post(&self, app: &str, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        let path = format!("/queue/{app}");
        self.http(Method::POST, &path, headers, body.to_owned())
            .await
    }

    /// Submits a job to `app` with a hint and returns its id.
    pub async fn submit_to(&self, app: &str, hint: &str, input: Value) -> JobId {
        let headers = [("x-fal-runner-hint", hint)];
        let answer = self.post(app, &headers, &input.to_string()).await;
        answer.job_id()
    }

    /// Submits a job of `run_ms` to [`TIMED`], loading for 50 ms when cold.
    pub async fn submit(&self, hint: &str, run_ms: u64) -> JobId {
        let input = json!({"run_ms": run_ms, "load_ms": 50});
        self.submit_to(TIMED, hint, input).await
    }

    /// Submits as [`System::submit`] does, as soon as the router accepts jobs: after an outage its
    /// connections take a moment.
    pub async fn submit_after_outage(&self, hint: &str, run_ms: u64) -> JobId {
        let (headers, input) = (
            [("x-fal-runner-hint", hint)],
            json!({"run_ms": run_ms, "load_ms": 50}).to_string(),
        );
        self.until("the router accepts jobs", TIMEOUT, async || {
            let answer = self.post(TIMED, &headers, &input).await;
            let id = answer.body["request_id"].as_str()?.parse().ok();
            id.filter(|_| answer.status == StatusCode::OK)
        })
        .await
    }

    /// A job's record.
    pub async fn job(&self, id: JobId) -> JobRecord {
        self.testbed.store().jobs().job(id).await.unwrap().unwrap()
    }

    /// Waits until a job reached `state`. Its record may not exist yet, as after a submission by
    /// AMQP.
    pub async fn reached_once_recorded(&self, id: JobId, state: JobState) -> JobRecord {
        eventually(&format!("job {id} is {state}"), TIMEOUT, async || {
            let record = self.testbed.store().jobs().job(id).await.unwrap();
            record.filter(|job| job.state == state)
        })
        .await
        .unwrap()
    }

    /// Waits until a job reached `state`.
    pub async fn reached(&self, id: JobId, state: JobState) -> JobRecord {
        eventually(&format!("job {id} is {state}"), TIMEOUT, async || {
            Some(self.job(id).await).filter(|job| job.state == state)
        })
        .await
        .unwrap()
    }

    /// Waits until a job ended in any state.
    pub async fn ended(&self, id: JobId) -> JobRecord {
        self.ended_within(id, TIMEOUT).await
    }

    /// Waits for at most `bound` until a job ended in any state.
    pub async fn ended_within(&self, id: JobId, bound: Duration) -> JobRecord {
        eventually(&format!("job {id} ended"), bound, async || {
            Some(self.job(id).await).filter(|job| job.state.is_terminal())
        })
        .await
        .unwrap()
    }

    /// Waits until a job ended, and fails the test with its error unless it succeeded.
    pub async fn succeeded(&self, id: JobId) -> JobRecord {
        let job = self.ended(id).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
        job
    }

    /// Waits until `probe` returns a value.
    pub async fn until<T>(
        &self,
        what: &str,
        bound: Duration,
        probe: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        eventually(what, bound, probe).await.unwrap()
    }

    /// Makes the only worker busy for 2 s with model `m`, and returns jobs for `m` that the
    /// dispatcher holds meanwhile.
    pub async fn hold_jobs(&self) -> Vec<JobId> {
        self.succeeded(self.submit("m", 1).await).await;
        let busy = self.submit("m", 2_000).await;
        self.reached(busy, JobState::Running).await;
        let mut jobs = Vec::new();
        for _ in 0..5 {
            jobs.push(self.submit("m", 10).await);
        }
        for id in &jobs {
            let held = async || self.job(*id).await.hold;
            eventually("the dispatcher holds it", TIMEOUT, held)
                .await
                .unwrap();
        }
        jobs
    }

    /// Returns the live runners of an app.
    pub async fn runners(&self, app: &str) -> Vec<RunnerRecord> {
        let app = AppId::parse(app).unwrap();
        self.testbed.store().runners().list(&app).await.unwrap()
    }

    /// Waits until all runners of an app are idle.
    pub async fn all_idle(&self, app: &str) {
        eventually("all runners are idle", TIMEOUT, async || {
            let runners = self.runners(app).await;
            runners.iter().all(|runner| runner.idle).then_some(())
        })
        .await
        .unwrap();
    }
}
