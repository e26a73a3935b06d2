//! Submissions by HTTP, over connections that are kept.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Client;
use serde_json::Value;
use warmq_types::ids::JobId;

/// A header that a condition asks for.
const PLAN: (&str, &str) = ("x-plan", "pro");

/// Where an answer says which job it is about.
const ID: &str = "x-fal-request-id";

/// A cheap handle on a router's door.
#[derive(Debug, Clone)]
pub struct SubmitClient {
    http: Client,
    url: String,
}

impl SubmitClient {
    /// The door of the router at `url`. Nothing is connected yet.
    pub fn new(url: &str) -> Self {
        Self {
            http: Client::new(),
            url: url.to_owned(),
        }
    }

    /// Submits something. Returns its id, and how long it took until that was there.
    ///
    /// # Errors
    /// The router refuses it or is away.
    pub async fn submit(&self, to: &str, input: &Value) -> anyhow::Result<(JobId, Duration)> {
        let begun = Instant::now();
        let id = self.post(&format!("/queue/{to}"), input).await?;
        Ok((id, begun.elapsed()))
    }

    /// Submits something and waits for its end.
    ///
    /// # Errors
    /// It fails, the router refuses it, or is away.
    pub async fn run(&self, to: &str, input: &Value) -> anyhow::Result<JobId> {
        self.post(&format!("/run/{to}"), input).await
    }

    async fn post(&self, path: &str, input: &Value) -> anyhow::Result<JobId> {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header(PLAN.0, PLAN.1).json(input);
        let response = request.send().await?;
        let status = response.status();
        let id = response.headers().get(ID).cloned();
        // Whole, so that the connection can be used again.
        let body = response.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        let id = id.context("the answer names no job")?;
        Ok(id.to_str()?.parse()?)
    }
}
