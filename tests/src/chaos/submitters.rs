//! Clients that submit by HTTP and AMQP, retry what may have failed, and cancel some jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use warmq_cli::client::{self, Client};
use warmq_types::ids::JobId;
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use super::ledger::{End, Ledger, Source};
use super::observer::REPLIES;
use super::retry::retry_until;
use super::workload::{Submission, Transport};

const MAX_IN_FLIGHT: usize = 48;

/// Timeout of a confirm, after which the message is published again.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

const PERSISTENT: u8 = 2;

/// A shared handle on all clients.
#[derive(Clone)]
pub struct Submitters {
    http: reqwest::Client,
    routers: Arc<[Client]>,
    /// Round-robin counter.
    next_router: Arc<AtomicUsize>,
    amqp_url: ServerUrl,
    jobs_exchange: String,
    link: Arc<Mutex<Option<Link>>>,
    ledger: Ledger,
}

/// A publishing connection.
struct Link {
    channel: Channel,
    _connection: Connection,
}

impl Submitters {
    /// Makes clients of these routers and this RabbitMQ.
    ///
    /// # Errors
    /// A router's URL is none.
    pub fn new(
        routers: &[String],
        amqp_url: ServerUrl,
        jobs_exchange: String,
        ledger: Ledger,
    ) -> Result<Self, client::Error> {
        let routers: Result<Vec<Client>, _> =
            routers.iter().map(|url| Client::new(url, None)).collect();
        Ok(Self {
            http: reqwest::Client::new(),
            routers: routers?.into(),
            next_router: Arc::default(),
            amqp_url,
            jobs_exchange,
            link: Arc::default(),
            ledger,
        })
    }

    /// Returns the next router in turn, since any may be down.
    pub fn router(&self) -> &Client {
        &self.routers[self.next_router.fetch_add(1, Ordering::Relaxed) % self.routers.len()]
    }

    /// Submits all, each at its time after `begun`.
    pub async fn submit_all(
        &self,
        submissions: Vec<Submission>,
        begun: Instant,
        deadline: Instant,
    ) {
        let submissions = futures::stream::iter(submissions);
        submissions
            .for_each_concurrent(MAX_IN_FLIGHT, async |submission| {
                tokio::time::sleep_until(begun + submission.at).await;
                self.run(&submission, deadline).await;
            })
            .await;
    }

    /// Submits until accepted or refused, repeats or cancels as planned, and returns the id if
    /// accepted.
    pub async fn run(&self, submission: &Submission, deadline: Instant) -> Option<JobId> {
        let id = self.submit(submission, deadline).await?;
        if submission.twice {
            self.submit(submission, deadline).await;
        }
        if let Some(after) = submission.cancelled_after {
            tokio::time::sleep(after).await;
            self.cancel(id, deadline).await;
        }
        Some(id)
    }

    async fn submit(&self, submission: &Submission, deadline: Instant) -> Option<JobId> {
        let answer = match submission.transport {
            Transport::Http => {
                let file_url = match submission.file() {
                    Some(file) => {
                        Some(retry_until(deadline, async || self.upload(&file).await).await?)
                    }
                    None => None,
                };
                let post = async || self.post(submission, file_url.as_deref()).await;
                retry_until(deadline, post).await?
            }
            Transport::Amqp { reply } => {
                let id = self.id_of(submission);
                let publish = async || self.publish(submission, id, reply).await;
                retry_until(deadline, publish).await.map(|()| Ok(id))?
            }
        };
        match answer {
            Ok(id) => {
                self.ledger.accepted(submission.number, id);
                Some(id)
            }
            Err(refusal) => {
                self.ledger.refused(submission.number, refusal);
                None
            }
        }
    }

    /// Returns the job's id or a final refusal; `None` if it is to be retried.
    async fn post(
        &self,
        submission: &Submission,
        file_url: Option<&str>,
    ) -> Option<Result<JobId, String>> {
        let url = format!("{}/queue/{}", self.router().url(), submission.endpoint());
        let mut input = submission.input();
        if let Some(file_url) = file_url {
            input["file_url"] = file_url.into();
        }
        let mut request = (self.http.post(url)).json(&input).header(
            "idempotency-key",
            format!("submission-{}", submission.number),
        );
        if let Some(hint) = &submission.hint {
            request = request.header("x-fal-runner-hint", hint);
        }
        if submission.no_retry {
            request = request.header("x-fal-no-retry", "1");
        }
        let response = request.send().await.ok()?;
        let status = response.status();
        let body = response.text().await.ok()?;
        if status == StatusCode::OK {
            let body: client::Submitted = serde_json::from_str(&body).ok()?;
            return Some(Ok(body.request_id));
        }
        let for_good = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        for_good.then(|| Err(format!("HTTP {status}: {body}")))
    }

    /// Returns the link to an uploaded file; `None` if it is to be retried, as another file.
    async fn upload(&self, content: &[u8]) -> Option<String> {
        let url = format!("{}/storage/upload/initiate", self.router().url());
        let announced = json!({"file_name": "submission.txt", "content_type": "text/plain"});
        let answer = self.http.post(url).json(&announced).send().await.ok()?;
        let answer: Value = answer.error_for_status().ok()?.json().await.ok()?;
        let put = self.http.put(answer["upload_url"].as_str()?);
        let put = put.body(content.to_vec()).send().await.ok()?;
        put.error_for_status().ok()?;
        answer["file_url"].as_str().map(str::to_owned)
    }

    /// The id is chosen once for all attempts.
    fn id_of(&self, submission: &Submission) -> JobId {
        let known = self.ledger.ids(submission.number);
        known.first().copied().unwrap_or_else(JobId::generate)
    }

    /// `None`: not confirmed.
    async fn publish(&self, submission: &Submission, id: JobId, reply: bool) -> Option<()> {
        let channel = self.channel().await?;
        let mut headers = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        if let Some(hint) = &submission.hint {
            headers.insert("x-runner-hint".into(), text(hint));
        }
        if submission.no_retry {
            headers.insert("x-no-retry".into(), text("1"));
        }
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.to_string().into())
            .with_headers(headers);
        if reply {
            properties = properties
                .with_reply_to(REPLIES.into())
                .with_correlation_id(id.to_string().into());
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirmed = async {
            let exchange = self.jobs_exchange.as_str().into();
            let body = submission.input().to_string();
            let published = {
                let endpoint = submission.endpoint().into();
                channel.basic_publish(exchange, endpoint, options, body.as_bytes(), properties)
            };
            published.await?.await
        };
        match tokio::time::timeout(CONFIRM_TIMEOUT, confirmed).await {
            Ok(Ok(Confirmation::Ack(None))) => Some(()),
            Ok(Ok(_)) => None,
            // The connection is broken, or useless.
            Ok(Err(_)) | Err(_) => {
                self.link.lock().await.take();
                None
            }
        }
    }

    async fn channel(&self) -> Option<Channel> {
        let mut link = self.link.lock().await;
        if let Some(open) = link.as_ref()
            && open.channel.status().connected()
        {
            return Some(open.channel.clone());
        }
        let connecting = warmq_broker::connect(&self.amqp_url, "warmq-chaos submitters");
        let connection = tokio::time::timeout(CONFIRM_TIMEOUT, connecting)
            .await
            .ok()?
            .ok()?;
        let channel = connection.create_channel().await.ok()?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.ok()?;
        *link = Some(Link {
            channel: channel.clone(),
            _connection: connection,
        });
        Some(channel)
    }

    async fn cancel(&self, id: JobId, deadline: Instant) {
        retry_until(deadline, async || {
            match self.router().cancel(id).await {
                Ok(Some(_)) => {
                    let end = End::state(JobState::Cancelled);
                    self.ledger.record_end(id, Source::Cancellation, end);
                    Some(())
                }
                // Ended otherwise before.
                Err(client::Error::Refused { status: 400, .. }) => Some(()),
                // Not recorded yet, if submitted by AMQP; or a server is away.
                Ok(None) | Err(_) => None,
            }
        })
        .await;
    }
}
