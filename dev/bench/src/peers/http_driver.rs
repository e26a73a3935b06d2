//! Submits jobs to warmq by HTTP: `/queue` and the result by id in a burst, `/run` at given times.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use warmq_types::ids::JobId;

use super::load::{Load, Pacer, unix_us};
use super::outcome::{Execution, Observed, ObservedJob};

/// Number of concurrent submitters of a burst.
const SUBMITTERS: usize = 32;

/// Number of concurrent readers of a burst's results.
const READERS: usize = 4;

/// Interval at which a reader polls a result.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Response header with the job's id.
const ID: &str = "x-fal-request-id";

/// A client of a router.
#[derive(Debug, Clone)]
pub struct HttpDriver {
    http: Client,
    url: String,
    app: String,
    input: Value,
    /// Header and value of the hint.
    hint: (&'static str, String),
}

impl HttpDriver {
    /// Creates a client of the router at `url`. Each job has the same input and hint.
    pub fn new(url: &str, app: &str, input: Value, hint: &str) -> Self {
        Self {
            http: Client::new(),
            url: url.to_owned(),
            app: app.to_owned(),
            input,
            hint: ("x-fal-runner-hint", hint.to_owned()),
        }
    }

    /// Submits the jobs of a load, and reads all results.
    ///
    /// # Errors
    /// The router is unreachable or refuses a job, or a job failed.
    pub async fn run(&self, load: &Load) -> anyhow::Result<Observed> {
        let pacer = Pacer::start(load);
        match load {
            Load::Burst(jobs) => self.burst(pacer, *jobs).await,
            Load::Arrivals(_) => self.open_loop(pacer).await,
        }
    }

    async fn burst(&self, pacer: Pacer, jobs: usize) -> anyhow::Result<Observed> {
        let ids: Vec<JobId> = self.submissions(jobs).try_collect().await?;
        let submitted_us = unix_us();
        let read = stream::iter(ids).map(|id| self.read(id));
        Ok(Observed {
            begun_us: pacer.begun_us,
            submitted_us,
            jobs: read.buffered(READERS).try_collect().await?,
        })
    }

    async fn open_loop(&self, mut pacer: Pacer) -> anyhow::Result<Observed> {
        let begun_us = pacer.begun_us;
        let mut running = JoinSet::new();
        while let Some(number) = pacer.next().await {
            let client = self.clone();
            running.spawn(async move { client.run_one().await.map(|job| (number, job)) });
        }
        let submitted_us = unix_us();
        let mut jobs = Vec::new();
        while let Some(ended) = running.join_next().await {
            jobs.push(ended??);
        }
        jobs.sort_by_key(|(number, _)| *number);
        Ok(Observed {
            begun_us,
            submitted_us,
            jobs: jobs.into_iter().map(|(_, job)| job).collect(),
        })
    }

    /// Submits jobs to the queue, some at a time, and returns their ids.
    ///
    /// # Errors
    /// The router is unreachable or refuses a job.
    pub fn submissions(&self, jobs: usize) -> impl Stream<Item = anyhow::Result<JobId>> + '_ {
        let submit = stream::iter(0..jobs).map(|_| self.submit());
        submit.buffered(SUBMITTERS)
    }

    /// Submits a job to the queue.
    ///
    /// # Errors
    /// The router is unreachable or refuses the job.
    pub async fn submit(&self) -> anyhow::Result<JobId> {
        let (_, id) = respond(self.post("queue").send().await?).await?;
        id
    }

    /// Returns the status of a job of the queue.
    ///
    /// # Errors
    /// The router is unreachable or refuses the request.
    pub async fn status(&self, id: JobId) -> anyhow::Result<Value> {
        let url = format!("{}/queue/{}/requests/{id}/status", self.url, self.app);
        let response = self.http.get(&url).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    /// Polls the result of a job of the queue.
    async fn read(&self, id: JobId) -> anyhow::Result<ObservedJob> {
        let url = format!("{}/queue/{}/requests/{id}", self.url, self.app);
        loop {
            let response = self.http.get(&url).send().await?;
            // The job has not ended.
            if response.status() == StatusCode::BAD_REQUEST {
                response.bytes().await?;
                sleep(POLL_INTERVAL).await;
                continue;
            }
            let (result_us, _) = respond(response).await?;
            return Ok(ObservedJob {
                execution: Execution::Recorded(id),
                result_us,
            });
        }
    }

    /// Submits a job and waits for its result, in one request.
    async fn run_one(&self) -> anyhow::Result<ObservedJob> {
        let (result_us, id) = respond(self.post("run").send().await?).await?;
        Ok(ObservedJob {
            execution: Execution::Recorded(id?),
            result_us,
        })
    }

    fn post(&self, call: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}/{call}/{}", self.url, self.app));
        let (header, hint) = &self.hint;
        request.header(*header, hint).json(&self.input)
    }
}

/// Reads a response to its end. Returns the time, Unix µs, and the job's id.
async fn respond(response: Response) -> anyhow::Result<(u64, anyhow::Result<JobId>)> {
    let (status, url) = (response.status(), response.url().clone());
    let id = response.headers().get(ID).cloned();
    let body = response.text().await?;
    let now_us = unix_us();
    ensure!(status.is_success(), "{url}: {status}: {body}");
    let id = id.context("the response contains no job id");
    Ok((now_us, id.and_then(|id| Ok(id.to_str()?.parse()?))))
}
