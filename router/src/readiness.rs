//! Readiness of the router: checks of RabbitMQ, Redis and the storage.
//!
//! The endpoint needs no key, so a report is cached for a moment, and contains no addresses and no
//! users: those are in the log.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use warmq_broker::{Publisher, advice};
use warmq_objects::ObjectStorage;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};

use crate::session_error::SessionError;

/// How long a result is cached.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// How long a success of the storage is cached: each check writes a file.
const STORAGE_CACHE_TTL: Duration = Duration::from_secs(10);

/// Timeout of each check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// Size of the probe file, bytes.
const PROBE_BYTES: usize = 64;

/// Folder of the probe file, beside the uploads.
const PROBE_APP: &str = "uploads/router";

/// Limits of RabbitMQ that differ from the settings, discovered by its errors: AMQP has no way to
/// read them.
#[derive(Debug, Clone, Default)]
pub struct BrokerLimits(Arc<std::sync::Mutex<Option<Duration>>>);

impl BrokerLimits {
    /// Records a limit reported by a session's error.
    pub fn note(&self, broken: &SessionError) {
        if let SessionError::Lapin(error) = broken
            && let Some(timeout) = advice::consumer_timeout(&error.to_string())
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(timeout);
        }
    }

    fn warning(&self) -> Option<String> {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout_ms = seen?.as_millis();
        Some(format!(
            "RabbitMQ takes messages back after {timeout_ms} ms (consumer_timeout), which the settings do not say. Start all \
             routers and workers with --consumer-timeout {timeout_ms}ms, or raise it there"
        ))
    }
}

/// A cheap handle on the checks.
#[derive(Clone)]
pub struct Readiness {
    store: Store,
    publisher: Publisher,
    storage: ObjectStorage,
    limits: BrokerLimits,
    latest: Arc<Mutex<Latest>>,
}

#[derive(Default)]
struct Latest {
    report: Option<(Instant, Report)>,
    /// Time of the last success of the storage.
    storage: Option<Instant>,
}

/// Results of the checks; an error is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// RabbitMQ takes messages.
    pub rabbitmq: Result<(), String>,
    /// Redis takes writes, runs scripts and delivers messages.
    pub redis: Result<(), String>,
    /// Files can be written and read.
    pub storage: Result<(), String>,
    /// Settings under which jobs or results can get lost.
    pub warnings: Vec<String>,
}

impl Report {
    /// Returns whether all checks succeeded.
    pub fn is_ready(&self) -> bool {
        self.rabbitmq.is_ok() && self.redis.is_ok() && self.storage.is_ok()
    }
}

/// A failure: the public text and the full one.
struct Failure {
    summary: String,
    whole: String,
}

impl Failure {
    fn silent(what: &str) -> Self {
        let summary = format!("{what} has not answered for {} s", CHECK_TIMEOUT.as_secs());
        Self {
            whole: summary.clone(),
            summary,
        }
    }
}

impl Readiness {
    /// Returns checks of these servers.
    pub fn new(
        store: Store,
        publisher: Publisher,
        storage: ObjectStorage,
        limits: BrokerLimits,
    ) -> Self {
        Self {
            store,
            publisher,
            storage,
            limits,
            latest: Arc::default(),
        }
    }

    /// Runs all checks, unless a recent result is cached.
    pub async fn report(&self) -> Report {
        // Held during the checks, so that concurrent requests share one.
        let mut latest = self.latest.lock().await;
        if let Some((when, report)) = &latest.report
            && when.elapsed() < CACHE_TTL
        {
            return report.clone();
        }
        let storage_works = (latest.storage).is_some_and(|when| when.elapsed() < STORAGE_CACHE_TTL);
        let storage = async {
            match storage_works {
                true => Ok(()),
                false => self.storage().await,
            }
        };
        let (rabbitmq, redis, storage) = tokio::join!(self.rabbitmq(), self.redis(), storage);
        if storage.is_ok() && !storage_works {
            latest.storage = Some(Instant::now());
        }
        let before = latest.report.take().map(|(_, report)| report);
        let (redis, mut warnings) = match redis {
            Ok(warnings) => (Ok(()), warnings),
            Err(failure) => (Err(failure), Vec::new()),
        };
        warnings.extend(self.limits.warning());
        let before = before.as_ref();
        let report = Report {
            rabbitmq: public("RabbitMQ", rabbitmq, before.map(|report| &report.rabbitmq)),
            redis: public("Redis", redis, before.map(|report| &report.redis)),
            storage: public("the storage", storage, before.map(|report| &report.storage)),
            warnings,
        };
        latest.report = Some((Instant::now(), report.clone()));
        report
    }

    async fn rabbitmq(&self) -> Result<(), Failure> {
        let channel = tokio::time::timeout(CHECK_TIMEOUT, self.publisher.channel()).await;
        let channel = channel.map_err(|_| Failure::silent("rabbitmq"))?;
        channel.map(drop).map_err(|error| Failure {
            summary: error.summary(),
            whole: error.to_string(),
        })
    }

    async fn redis(&self) -> Result<Vec<String>, Failure> {
        let asked = async {
            self.store.check().requirements().await?;
            self.store.check().warnings().await
        };
        let asked = tokio::time::timeout(CHECK_TIMEOUT, asked).await;
        let asked = asked.map_err(|_| Failure::silent("redis"))?;
        asked.map_err(|error| Failure {
            summary: error.summary(),
            whole: error.to_string(),
        })
    }

    async fn storage(&self) -> Result<(), Failure> {
        let failure = |whole: String| Failure {
            summary: "the storage does not take files: see the router's log".to_owned(),
            whole,
        };
        let app = AppId::parse(PROBE_APP).map_err(|error| failure(error.to_string()))?;
        let name = JobId::generate().to_string();
        let probe = self.storage.probe(&app, &name, PROBE_BYTES);
        let probed = tokio::time::timeout(CHECK_TIMEOUT, probe).await;
        let probed = probed.map_err(|_| Failure::silent("the storage"))?;
        probed.map_err(|error| failure(error.to_string()))
    }
}

/// Returns the public part of `found`. The full text is logged when it is new.
fn public(
    name: &str,
    found: Result<(), Failure>,
    before: Option<&Result<(), String>>,
) -> Result<(), String> {
    let Failure { summary, whole } = match found {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    let found = Err(summary);
    if before != Some(&found) {
        tracing::warn!(reason = %whole, "not ready: {name} cannot be used");
    }
    found
}
