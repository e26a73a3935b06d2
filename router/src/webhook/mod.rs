//! Tells by HTTP how jobs ended, to those who gave a URL for it (`?fal_webhook=`): fal's webhooks.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `notice` | the message: whose webhook, which attempt |
//! | `limit` | a slow receiver takes so many hands and no more |
//! | `signature` | who told it: an ED25519 signature, and the key to check it with |
//! | `action` | what an answer means, and what follows: pure |
//!
//! A notice comes with the job's end and comes again from a retry tier, so RabbitMQ has it while it
//! waits, and whichever router is there tells it. It carries no result: each attempt tells what the
//! record says, for as long as that is kept. Whether it is its turn is decided in Redis
//! (`Store::begin_delivery`), where attempts are counted; so an end that is announced twice is told
//! once.

mod notice;
mod per_host_limit;
mod response;
mod signature;

use std::time::Duration;

use axum::http::StatusCode;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;
use url::Url;
use warmq_broker::{PublishError, Publisher, Topology};
use warmq_fetch::Fetcher;
use warmq_process::clock::unix_ms;
use warmq_store::{AfterAttempt, AttemptSlot, Secret, Store, WebhookDelivery};
use warmq_types::ids::KeyId;
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::retry_tier::RetryTier;
use warmq_types::server_url::ServerUrl;

use crate::files::Links;
use crate::metrics::Metrics;
use crate::queue_consumer::QueueConsumer;
use crate::session_error::SessionError;
use notice::Notice;
use per_host_limit::PerHostLimit;
use response::ResponseAction;
pub use signature::WebhookKey;

/// Webhooks that are told at once.
const PREFETCH: u16 = 64;

/// How many of them to one receiver.
const MAX_PER_HOST: usize = 8;

/// How long a receiver may take, as fal lets it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a router that died in the middle of telling keeps others from it: more than telling
/// takes.
const DELIVERY_LEASE: Duration = Duration::from_secs(20);

/// The user of a job that belongs to nobody.
const ANONYMOUS: &str = "anonymous";

/// What a receiver says.
type Answer = Result<StatusCode, warmq_fetch::Error>;

/// Tells the ended jobs' webhooks.
pub struct Webhooks {
    /// Where the outcomes are.
    pub store: Store,
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// For what is to be told again.
    pub publisher: Publisher,
    /// Reaches the receivers.
    pub fetcher: Fetcher,
    /// To the jobs' files.
    pub links: Links,
    /// What this process counted.
    pub metrics: Metrics,
}

/// What webhooks are signed with: one key for all routers, made by the first that asks. Asked for
/// each time, since a Redis that lost it makes another.
///
/// # Errors
/// Redis is away.
pub async fn key(store: &Store) -> Result<WebhookKey, warmq_store::Error> {
    let seed = store.secret(Secret::Webhooks, rand::random()).await?;
    Ok(WebhookKey::of_seed(&seed))
}

impl Webhooks {
    /// Tells until `shutdown`, over as many connections as it takes.
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let limit = PerHostLimit::new(MAX_PER_HOST);
        let webhooks = QueueConsumer {
            what: "webhooks to deliver",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.webhook_events_queue(),
            prefetch: PREFETCH,
            max_concurrent: usize::from(PREFETCH),
        };
        webhooks
            .each(&shutdown, |delivery| self.take(delivery, &limit))
            .await;
        Ok(())
    }

    async fn take(&self, delivery: Delivery, limit: &PerHostLimit) -> Result<(), SessionError> {
        match Notice::read(&delivery) {
            Err(error) => tracing::warn!(%error, "dropped a webhook notice that cannot be read"),
            Ok(notice) => self.deliver(notice, limit).await?,
        }
        // What is to be told again is a message of its own by now.
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Tells the job's end if there is one to tell, and it is this notice's turn.
    async fn deliver(&self, mut notice: Notice, limit: &PerHostLimit) -> Result<(), SessionError> {
        let (app, job) = (notice.app().clone(), notice.job());
        if let Some(wait_ms) = notice
            .booked_ms
            .take()
            .map(|ms| ms.saturating_sub(unix_ms()))
            && wait_ms > 0
        {
            return Ok(self.put_off(notice, Duration::from_millis(wait_ms)).await?);
        }
        let (url, end_ms) = match self.store.delivery(&app, job).await? {
            WebhookDelivery::Of { webhook, end_ms } if notice.is_of(end_ms) => (webhook, end_ms),
            // It was redriven. Another notice comes with its other end.
            WebhookDelivery::Of { .. } | WebhookDelivery::Nothing => return Ok(()),
            WebhookDelivery::Gone => {
                tracing::warn!(job.id = %job, attempt = notice.attempt, "a webhook was not delivered: the result has expired");
                self.metrics.webhook(&app, "given_up");
                return Ok(());
            }
        };
        let host = host(&url);
        let _place = match limit.enter(&receiver(&url)) {
            Ok(place) => place,
            Err(wait) => return Ok(self.put_off(notice, wait).await?),
        };
        let attempt = (notice.attempt, end_ms);
        let turn = self
            .store
            .begin_delivery(&app, job, attempt, DELIVERY_LEASE);
        match turn.await? {
            AttemptSlot::Never => Ok(()),
            AttemptSlot::After(wait) => Ok(self.park(&notice, wait).await?),
            AttemptSlot::Now => self.attempt(notice, end_ms, &url, &host).await,
        }
    }

    /// One attempt, and what follows it.
    async fn attempt(
        &self,
        mut notice: Notice,
        end_ms: u64,
        url: &str,
        host: &str,
    ) -> Result<(), SessionError> {
        let (app, job, attempt) = (notice.app().clone(), notice.job(), notice.attempt);
        let record = self.store.job_of(&app, job).await?;
        let Some(record) = record.filter(|record| record.finished_ms == Some(end_ms)) else {
            return Ok(());
        };
        let answer = self.post(&record, url).await?;
        let action = ResponseAction::of(host, answer, attempt);
        // First the message, then the count: if this router dies between, the attempt is made
        // again.
        if let AfterAttempt::Again(wait) = action.then {
            notice.attempt += 1;
            self.park(&notice, wait).await?;
        }
        let line = (action.level, action.line.as_str());
        let noted = self
            .store
            .end_delivery(&app, job, (attempt, end_ms), action.then, line);
        noted.await?;
        self.metrics.webhook(&app, action.outcome);
        tracing::info!(job.id = %job, host, attempt, outcome = action.outcome, "{}", action.line);
        Ok(())
    }

    /// Signs and sends what the record says.
    async fn post(&self, record: &JobRecord, url: &str) -> Result<Answer, warmq_store::Error> {
        let body = self.links.outcome(record);
        let body = body.to_string();
        let key = key(&self.store).await?;
        let (job, user) = (record.spec.id, user(&record.spec));
        let headers = key.headers(job, user, unix_ms() / 1000, body.as_bytes());
        Ok(self
            .fetcher
            .post(url, headers, body.into(), RESPONSE_TIMEOUT)
            .await)
    }

    /// Has a notice come again after `wait`, by one retry tier after another: until then nobody is
    /// asked about it.
    async fn put_off(&self, mut notice: Notice, wait: Duration) -> Result<(), PublishError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        notice.booked_ms = Some(unix_ms().saturating_add(wait_ms));
        self.park(&notice, wait).await
    }

    /// Has a notice come again in `wait` at the latest; whoever gets it then looks whether it is
    /// due.
    async fn park(&self, notice: &Notice, wait: Duration) -> Result<(), PublishError> {
        let exchange = self.topology.retry_exchange(RetryTier::at_most(wait));
        let key = self.topology.webhook_key();
        self.publisher
            .publish(&exchange, key, &notice.message())
            .await
    }
}

/// Whose job it is.
fn user(job: &JobSpec) -> &str {
    job.owner.as_ref().map_or(ANONYMOUS, KeyId::as_str)
}

/// The receiver's name, without the rest of its URL, which may hold a secret.
fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.unwrap_or_default().to_owned()
}

/// The receiver: `example.com:443`.
fn receiver(url: &str) -> String {
    let port = Url::parse(url).ok();
    let port = port.and_then(|url| url.port_or_known_default());
    format!("{}:{}", host(url), port.unwrap_or_default())
}
