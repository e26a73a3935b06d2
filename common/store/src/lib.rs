//! Redis: the jobs' records, and what runners say of themselves. Every change is one atomic script.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `keys` | the keys, and nobody else spells one |
//! | `lua/`, `scripts`, `answers` | one file per atomic change; how they are loaded, and what they answer |
//! | `jobs`, `record` | records: made, taken back, found; a hash read into one |
//! | `active` | how many jobs of an owner wait or run |
//! | `choices` | where routes sent what is submitted again |
//! | `placement`, `attempts` | where a waiting job goes; attempts begun, kept alive, ended, lost |
//! | `flows` | flows: how far they are, and when they are looked at |
//! | `log` | what a job's owner is told meanwhile |
//! | `late` | attempts that began or ended while Redis was away |
//! | `cancel`, `deadlines` | jobs that end without a result |
//! | `outbox`, `replies`, `webhooks` | ends that are to be announced, and who was told |
//! | `faults` | runners that take no jobs; two workers of one name |
//! | `fleet`, `hints`, `changes` | runners: who lives, who is idle, who holds what; the news of them |
//! | `api_keys` | keys of those who submit, and how often each may |
//! | `secrets` | what all routers sign with |
//! | `stats`, `upkeep` | what the leader learned, and what it looks after |
//! | `usage` | which apps are in use; forgets those that are not |
//! | `check`, `refusal` | whether Redis can do all that is needed; what it means when it says no |
//! | `subscriptions` | pub/sub channels, all over one connection |
//!
//! Everything of one app carries the hash tag `{app}`, and no script touches two apps; what is asked about many apps
//! at once still wants one server, so Redis Cluster is refused. Times are Redis' own clock (Unix ms): hosts need not agree.

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

/// What can go wrong with Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there, or the connection ended.
    #[error(
        "redis is unreachable at {url} ({reason}): start it (Debian: `sudo apt-get install redis-server && \
         sudo systemctl start redis-server`, or `make setup`), or set --redis-url / WARMQ_REDIS_URL"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The system's, or the client's.
        reason: String,
    },
    /// It answers, and cannot be used.
    #[error("redis at {url} {refusal}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// Why, and what to do.
        refusal: Refusal,
    },
    /// Its certificate is none that we trust.
    #[error(
        "the certificate of Redis at {url} is not trusted: {reason}. If its authority is your own, name a PEM file with it in \
         SSL_CERT_FILE"
    )]
    Untrusted {
        /// The URL, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A command failed.
    #[error("{}", failed(.0))]
    Command(redis::RedisError),
    /// A record is not what this build writes.
    #[error("the record at {key} is damaged: {reason}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// A command's failure, with the remedy if there is one.
fn failed(error: &redis::RedisError) -> String {
    match Refusal::of(error) {
        Some(refusal) => format!("redis {refusal}"),
        None => format!("redis: {error}"),
    }
}

impl From<redis::RedisError> for Error {
    /// What is stored is of another type than this build writes, or no script can work on it: the same command fails again.
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

/// What scripts and commands say of a value that is not what it should be. Other errors of theirs (rights, memory) go away.
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

    /// A failure of the first commands: `url` names the server that is meant.
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

    /// Returns whether waiting is no remedy: the settings must change, here or in Redis.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.is_final(),
            Self::Untrusted { .. } | Self::Damaged { .. } => true,
            Self::Unreachable { .. } | Self::Command(_) => false,
        }
    }

    /// Returns what is wrong, for those who may not know where the server is.
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

    /// The stored data is to blame: trying again does not help.
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

/// A cheap handle on one namespace of one Redis. It reconnects by itself; a call made meanwhile fails.
#[derive(Clone)]
pub struct Store {
    connection: ConnectionManager,
    url: ServerUrl,
    subscriptions: Subscriptions,
    keys: Keys,
    scripts: Arc<Scripts>,
}

impl Store {
    /// Connects, and tries all that warmq needs of Redis. One that is full will do: what ended can be read, and it
    /// may be given room.
    ///
    /// # Errors
    /// Redis is unreachable within 5 s, or cannot be used.
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

    /// Redis' clock, Unix ms.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Whether Redis answers now.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await?)
    }
}

/// Jobs that are dealt with side by side where one look finds many.
const SIDE_BY_SIDE: usize = 32;

/// A time as scripts take it; beyond what fits, the longest that does.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
