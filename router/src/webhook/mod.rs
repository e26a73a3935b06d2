//! Delivers the results of jobs to their webhook URLs (`?fal_webhook=`), as fal does.
//!
//! | module | content |
//! | --- | --- |
//! | `notice` | the message: job and attempt |
//! | `per_host_limit` | concurrent deliveries per host |
//! | `signature` | ED25519 signature, and the key to verify it |
//! | `response` | meaning of a response, and what follows: pure |
//!
//! A notice is the job's event at first, and then a message in a retry tier, so RabbitMQ keeps it
//! while it waits, and any router can deliver it. It contains no result: each attempt reads the
//! record, as long as it is retained. Redis counts the attempts and grants each one
//! (`WebhookDeliveries::begin`), so a duplicate event leads to one delivery.

mod notice;
mod per_host_limit;
mod response;
mod signature;

use std::time::Duration;

use axum::http::StatusCode;
use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use url::Url;
use warmq_broker::{PublishError, Publisher, Topology, acknowledgement};
use warmq_fetch::Fetcher;
use warmq_process::clock::unix_ms;
use warmq_store::{AfterAttempt, AttemptSlot, Secret, Store, WebhookDelivery};
use warmq_types::ids::KeyId;
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::retry_tier::RetryTier;
use warmq_types::server_url::ServerUrl;

use crate::files::{SignedUrls, references};
use crate::metrics::Metrics;
use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;
use notice::Notice;
use per_host_limit::PerHostLimit;
use response::ResponseAction;
pub use signature::WebhookKey;

/// Concurrent deliveries.
const PREFETCH: u16 = 64;

/// Concurrent deliveries per host.
const MAX_PER_HOST: usize = 8;

/// Response timeout, as in fal.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Lease of a delivery, longer than any takes: a crashed router blocks others for this long.
const DELIVERY_LEASE: Duration = Duration::from_secs(20);

/// User of a job without owner.
const ANONYMOUS: &str = "anonymous";

/// Response of a receiver.
type Answer = Result<StatusCode, warmq_fetch::Error>;

/// Delivers webhooks.
pub struct Webhooks {
    pub(crate) store: Store,
    pub(crate) amqp_url: ServerUrl,
    pub(crate) topology: Topology,
    pub(crate) publisher: Publisher,
    pub(crate) fetcher: Fetcher,
    pub(crate) signed_urls: SignedUrls,
    pub(crate) metrics: Metrics,
}

/// Returns the signing key of all routers, created on first use. Read each time, since a Redis that
/// lost it creates another.
pub async fn key(store: &Store) -> Result<WebhookKey, warmq_store::Error> {
    let seed = store
        .secrets()
        .secret(Secret::Webhooks, rand::random())
        .await?;
    Ok(WebhookKey::of_seed(&seed))
}

impl Webhooks {
    /// Delivers until `shutdown`, reconnecting as needed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let limit = PerHostLimit::new(MAX_PER_HOST);
        let webhooks = ReconnectingConsumer {
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
        // A pending retry is a message of its own.
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }

    /// Delivers the job's result if this notice is due.
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
        let (url, end_ms) = match self.store.webhook_deliveries().pending(&app, job).await? {
            WebhookDelivery::Of { webhook, end_ms } if notice.is_of(end_ms) => (webhook, end_ms),
            // The job was redriven; its next end has its own notice.
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
            .webhook_deliveries()
            .begin(&app, job, attempt, DELIVERY_LEASE);
        match turn.await? {
            AttemptSlot::Never => Ok(()),
            AttemptSlot::After(wait) => Ok(self.park(&notice, wait).await?),
            AttemptSlot::Now => self.attempt(notice, end_ms, &url, &host).await,
        }
    }

    /// Makes one attempt, and schedules the next if it fails.
    async fn attempt(
        &self,
        mut notice: Notice,
        end_ms: u64,
        url: &str,
        host: &str,
    ) -> Result<(), SessionError> {
        let (app, job, attempt) = (notice.app().clone(), notice.job(), notice.attempt);
        let record = self.store.jobs().job_of(&app, job).await?;
        let Some(record) = record.filter(|record| record.finished_ms == Some(end_ms)) else {
            return Ok(());
        };
        let answer = self.post(&record, url).await?;
        let action = ResponseAction::of(host, answer, attempt);
        // The message precedes the count: after a crash between the two, the attempt is repeated.
        if let AfterAttempt::Again(wait) = action.then {
            notice.attempt += 1;
            self.park(&notice, wait).await?;
        }
        let line = (action.level, action.line.as_str());
        let noted =
            self.store
                .webhook_deliveries()
                .end(&app, job, (attempt, end_ms), action.then, line);
        noted.await?;
        self.metrics.webhook(&app, action.outcome);
        tracing::info!(job.id = %job, host, attempt, outcome = action.outcome, "{}", action.line);
        Ok(())
    }

    /// Signs and posts the record's result.
    async fn post(&self, record: &JobRecord, url: &str) -> Result<Answer, warmq_store::Error> {
        let body = references::outcome(record, &self.signed_urls);
        let body = body.to_string();
        let key = key(&self.store).await?;
        let (job, user) = (record.spec.id, user(&record.spec));
        let headers = key.headers(job, user, unix_ms() / 1000, body.as_bytes());
        Ok(self
            .fetcher
            .post(url, headers, body.into(), RESPONSE_TIMEOUT)
            .await)
    }

    /// Delays a notice for `wait` through retry tiers, without a check in between.
    async fn put_off(&self, mut notice: Notice, wait: Duration) -> Result<(), PublishError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        notice.booked_ms = Some(unix_ms().saturating_add(wait_ms));
        self.park(&notice, wait).await
    }

    /// Delays a notice for at most `wait`; its next consumer checks whether it is due.
    async fn park(&self, notice: &Notice, wait: Duration) -> Result<(), PublishError> {
        let exchange = self.topology.retry_exchange(RetryTier::at_most(wait));
        let key = self.topology.webhook_key();
        self.publisher
            .publish(&exchange, key, &notice.message())
            .await
    }
}

/// Returns the job's owner.
fn user(job: &JobSpec) -> &str {
    job.owner.as_ref().map_or(ANONYMOUS, KeyId::as_str)
}

/// Returns the host without the rest of the URL, which may contain a secret.
fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.unwrap_or_default().to_owned()
}

/// Returns the host with its port: `example.com:443`.
fn receiver(url: &str) -> String {
    let port = Url::parse(url).ok();
    let port = port.and_then(|url| url.port_or_known_default());
    format!("{}:{}", host(url), port.unwrap_or_default())
}
