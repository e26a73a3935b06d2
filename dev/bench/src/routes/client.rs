//! Submits jobs by HTTP over persistent connections.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Client;
use serde_json::Value;
use warmq_types::ids::JobId;

/// Header for a route's condition.
const PLAN: (&str, &str) = ("x-plan", "pro");

/// Response header with the job's id.
const ID: &str = "x-fal-request-id";

/// An HTTP client of a router; cheap to clone.
#[derive(Debug, Clone)]
pub struct SubmitClient {
    http: Client,
    url: String,
}

impl SubmitClient {
    /// Creates a client of the router at `url`. Connects lazily.
    pub fn new(url: &str) -> Self {
        Self {
            http: Client::new(),
            url: url.to_owned(),
        }
    }

    /// Submits a job. Returns its id and the response time.
    ///
    /// # Errors
    /// The router rejects the job or is unreachable.
    pub async fn submit(&self, to: &str, input: &Value) -> anyhow::Result<(JobId, Duration)> {
        let begun = Instant::now();
        let id = self.post(&format!("/queue/{to}"), input).await?;
        Ok((id, begun.elapsed()))
    }

    /// Submits a job and waits for its end.
    ///
    /// # Errors
    /// The job fails, or the router rejects it or is unreachable.
    pub async fn run(&self, to: &str, input: &Value) -> anyhow::Result<JobId> {
        self.post(&format!("/run/{to}"), input).await
    }

    async fn post(&self, path: &str, input: &Value) -> anyhow::Result<JobId> {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header(PLAN.0, PLAN.1).json(input);
        let response = request.send().await?;
        let status = response.status();
        let id = response.headers().get(ID).cloned();
        // Read to its end, so that the connection is reused.
        let body = response.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        let id = id.context("the response contains no job id")?;
        Ok(id.to_str()?.parse()?)
    }
}
