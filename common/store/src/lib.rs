//! Redis: records of jobs and runners. Every change is one atomic script.
//!
//! | module | contents |
//! | --- | --- |
//! | `keys` | all keys; no other file spells one |
//! | `lua/`, `scripts`, `script_reply` | one file per atomic change, and its replies |
//! | `jobs`, `record` | records of jobs; parsing a hash into a record |
//! | `active` | active jobs per owner |
//! | `sticky_routes` | routes' choices for repeated submissions |
//! | `placement`, `attempts` | placement of waiting jobs; start, lease, end and loss of attempts |
//! | `flows` | flows and the times of their next reconcile |
//! | `log` | logs of jobs |
//! | `deferred` | attempts that began or ended during an outage of Redis |
//! | `cancel`, `deadlines` | cancellation, expiry |
//! | `outbox`, `replies`, `webhook_deliveries` | events, replies and webhooks to send |
//! | `faults` | runners that take no jobs; workers with equal names |
//! | `fleet`, `hints`, `runner_events` | runners: registration, idle runners by model, events |
//! | `api_keys` | API keys and their rates |
//! | `secrets` | shared secrets for signatures |
//! | `leadership`, `stats`, `maintenance` | leader leases, statistics, lost jobs |
//! | `usage` | apps in use; removal of others |
//! | `check`, `refusal` | requirements of the server; remedies for its errors |
//! | `subscriptions` | pub/sub channels over one connection |
//!
//! All keys of one app have the hash tag `{app}`, and no script touches two apps. Reads over many
//! apps still need one server, so Redis Cluster is refused. Times are those of Redis' clock (Unix
//! ms): hosts need not agree.

mod active;
mod api_keys;
mod attempts;
mod cancel;
mod check;
mod deadlines;
mod deferred;
mod faults;
mod fleet;
mod flows;
mod hints;
mod jobs;
mod keys;
mod leadership;
mod log;
mod maintenance;
mod outbox;
mod placement;
mod record;
mod refusal;
mod replies;
mod runner_events;
mod script_reply;
mod scripts;
mod secrets;
mod stats;
mod sticky_routes;
mod subscriptions;
mod usage;
mod webhook_deliveries;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

pub use api_keys::{KeyCreation, KeyRevocation};
pub use attempts::{Finish, Loss, RequeueCause, Start, StartSource};
pub use cancel::{Cancel, Cancellations};
pub use deferred::DeferredStart;
pub use faults::{FaultReport, NameConflict};
pub use fleet::{AppLoad, Counts, Registration, RunnerReport};
pub use flows::{FlowLine, FlowPlan, FlowState, FlowTransition};
pub use jobs::{AdmissionRules, Created, JobHead};
pub use log::{JobSnapshot, LogLine};
pub use maintenance::{QueueDepths, QueuedCursor};
pub use placement::{Claim, Unavailable};
pub use refusal::Refusal;
pub use runner_events::{FreeRunner, Ran, RunnerAvailability, RunnerEvent, RunnerEvents};
pub use secrets::Secret;
pub use webhook_deliveries::{AfterAttempt, AttemptSlot, WebhookDelivery};

use keys::Keys;
use scripts::Scripts;
use subscriptions::Subscriptions;
use warmq_process::tls;
use warmq_types::ids::Namespace;
use warmq_types::server_url::ServerUrl;

/// Errors of Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens at the address, or the connection ended.
    #[error(
        "redis is unreachable at {url} ({reason}): start it (Debian: `sudo apt-get install redis-server && \
         sudo systemctl start redis-server`, or `make setup`), or set --redis-url / WARMQ_REDIS_URL"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The system's or the client's reason.
        reason: String,
    },
    /// The server answers, and is unusable.
    #[error("redis at {url} {refusal}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// The reason, with its remedy.
        refusal: Refusal,
    },
    /// The certificate is not trusted.
    #[error(
        "the certificate of Redis at {url} is not trusted: {reason}. If its authority is your own, name a PEM file with it in \
         SSL_CERT_FILE"
    )]
    Untrusted {
        /// The URL, without its password.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A command failed.
    #[error("{}", failed(.0))]
    Command(redis::RedisError),
    /// A record was written by another version, or is damaged.
    #[error("the record at {key} is damaged: {reason}")]
    Damaged {
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
}

/// Formats a failed command, with the remedy if there is one.
fn failed(error: &redis::RedisError) -> String {
    match Refusal::of(error) {
        Some(refusal) => format!("redis {refusal}"),
        None => format!("redis: {error}"),
    }
}

impl From<redis::RedisError> for Error {
    /// The stored value has another type, or no script can process it: the same command fails
    /// again.
    fn from(error: redis::RedisError) -> Self {
        let text = error.to_string();
        let is_damage = match error.code() {
            Some("WRONGTYPE") => true,
            Some("ERR") => DAMAGE.iter().any(|complaint| text.contains(complaint)),
            _ => false,
        };
        match is_damage {
            true => Self::damaged("a key", text),
            false => Self::Command(error),
        }
    }
}

/// Prefixes of errors about values. Other errors of scripts and commands (rights, memory) are
/// temporary.
const DAMAGE: [&str; 8] = [
    "attempt to compare",
    "attempt to perform arithmetic",
    "attempt to concatenate",
    "attempt to index",
    "bad argument",
    "is not an integer",
    "is not a float",
    "not a valid float",
];

impl Error {
    fn refused(url: &ServerUrl, refusal: Refusal) -> Self {
        Self::Refused {
            url: url.to_string(),
            refusal,
        }
    }

    /// Classifies a failure of the first commands to the server at `url`.
    fn at(url: &ServerUrl, error: redis::RedisError) -> Self {
        let reason = tls::distrust(&error);
        match (reason, Refusal::of(&error)) {
            (Some(reason), _) => Self::Untrusted {
                url: url.to_string(),
                reason,
            },
            (None, Some(refusal)) => Self::refused(url, refusal),
            (None, None) => Self::Unreachable {
                url: url.to_string(),
                reason: error.to_string(),
            },
        }
    }

    /// Returns whether retrying is useless: settings must change, here or in Redis.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.is_final(),
            Self::Untrusted { .. } | Self::Damaged { .. } => true,
            Self::Unreachable { .. } | Self::Command(_) => false,
        }
    }

    /// Returns the problem without the server's address, for users without access to it.
    pub fn summary(&self) -> String {
        match self {
            Self::Unreachable { .. } => "redis is unreachable".to_owned(),
            Self::Refused { refusal, .. } => format!("redis {refusal}"),
            Self::Untrusted { .. } => "the certificate of Redis is not trusted".to_owned(),
            Self::Command(error) if error.is_io_error() => "redis is unreachable".to_owned(),
            Self::Command(error) => failed(error),
            Self::Damaged { .. } => "a record in Redis is damaged".to_owned(),
        }
    }

    /// Returns whether the stored data is to blame, so that retrying is useless.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    fn damaged(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// A cheap handle to one namespace of one Redis. It reconnects by itself; calls fail meanwhile.
#[derive(Clone)]
pub struct Store {
    connection: ConnectionManager,
    url: ServerUrl,
    subscriptions: Subscriptions,
    keys: Keys,
    scripts: Arc<Scripts>,
}

impl Store {
    /// Connects, and tries everything that warmq needs of Redis. A full server passes: ended jobs
    /// are readable, and it may be given room.
    ///
    /// # Errors
    /// Redis is unreachable within 5 s, or unusable.
    pub async fn connect(url: &ServerUrl, namespace: Namespace) -> Result<Self, Error> {
        tls::prepare();
        let at = |error| Error::at(url, error);
        let client = redis::Client::open(url.expose()).map_err(at)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1));
        let connection = client
            .get_connection_manager_with_config(config)
            .await
            .map_err(at)?;
        let store = Self {
            connection,
            url: url.clone(),
            subscriptions: Subscriptions::new(client),
            keys: Keys::new(namespace),
            scripts: Arc::new(Scripts::load()),
        };
        match store.check().await {
            Err(Error::Command(error)) => match Error::at(url, error) {
                Error::Refused {
                    refusal: refusal @ (Refusal::Full | Refusal::NoWrites(_)),
                    ..
                } => tracing::warn!(%url, "redis {refusal}"),
                error => return Err(error),
            },
            checked => checked?,
        }
        Ok(store)
    }

    /// Returns Redis' clock, Unix ms.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Returns whether Redis answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await?)
    }
}

/// Number of jobs processed concurrently where a call finds many.
const SIDE_BY_SIDE: usize = 32;

/// Converts a duration to ms as scripts take it, at most what fits.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
