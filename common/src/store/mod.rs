//! Redis: the jobs' records, and what runners say of themselves. Every change is one atomic script.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `keys` | the keys, and nobody else spells one |
//! | `lua/`, `scripts`, `answers` | one file per atomic change; how they are loaded, and what they answer |
//! | `jobs`, `record` | records: made, taken back, found; a hash read into one |
//! | `choices` | where routes sent what is submitted again |
//! | `placement`, `attempts` | where a waiting job goes; attempts begun, kept alive, ended, lost |
//! | `flows` | flows: how far they are, and when they are looked at |
//! | `log` | what a job's owner is told meanwhile |
//! | `late` | attempts that began or ended while Redis was away |
//! | `cancel`, `deadlines` | jobs that end without a result |
//! | `untold`, `replies`, `webhooks` | ends that are to be announced, and who was told |
//! | `fleet`, `hints`, `changes` | runners: who lives, who is idle, who holds what; the news of them |
//! | `api_keys` | keys of those who submit, and how often each may |
//! | `secrets` | what all routers sign with |
//! | `stats`, `upkeep` | what the leader learned, and what it looks after |
//!
//! Everything of one app carries the hash tag `{app}`, and no script touches two apps, so Redis Cluster works.
//! Times are Redis' own clock (Unix ms): hosts need not agree.

mod answers;
mod api_keys;
mod attempts;
mod cancel;
mod changes;
mod choices;
mod deadlines;
mod fleet;
mod flows;
mod hints;
mod jobs;
mod keys;
mod late;
mod log;
mod placement;
mod record;
mod replies;
mod scripts;
mod secrets;
mod stats;
mod untold;
mod upkeep;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

pub use api_keys::{Kept, Revoked};
pub use attempts::{Finish, GivenBack, Ground, Lease, Loss, Outcome, Start};
pub use cancel::{Cancel, Cancellations};
pub use changes::{Change, Changes, FreeRunner, Pulse, Ran};
pub use fleet::{Counts, Registration, RunnerRecord, RunnerReport};
pub use flows::{FlowLine, FlowPlan, FlowState, Moved};
pub use jobs::{Created, JobHead, Terms};
pub use late::LateStart;
pub use log::{Glance, LogLine};
pub use placement::{Claim, Unavailable};
pub use secrets::Secret;
pub use upkeep::Depths;
pub use webhooks::{Telling, Then, Turn};

use crate::config::ServerUrl;
use crate::ids::Namespace;
use crate::tls;
use keys::Keys;
use scripts::Scripts;

/// What can go wrong with Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers, or the answer is no.
    #[error(
        "Redis does not answer at {url}: {reason}. Start it (Debian: `sudo apt-get install redis-server && \
         sudo systemctl start redis-server`, or `make setup`), or set --redis-url / WARMQ_REDIS_URL"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The client's, which the sentence holds already.
        reason: redis::RedisError,
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
    #[error("Redis: {0}")]
    Command(#[from] redis::RedisError),
    /// A record is not what this build writes.
    #[error("the record at {key} is damaged: {reason}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
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
    client: redis::Client,
    keys: Keys,
    scripts: Arc<Scripts>,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers within 5 s.
    pub async fn connect(url: &ServerUrl, namespace: Namespace) -> Result<Self, Error> {
        tls::prepare();
        let unreachable = |error| match tls::distrust(&error) {
            Some(reason) => Error::Untrusted {
                url: url.to_string(),
                reason,
            },
            None => Error::Unreachable {
                url: url.to_string(),
                reason: error,
            },
        };
        let client = redis::Client::open(url.expose()).map_err(unreachable)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1));
        let mut connection = client
            .get_connection_manager_with_config(config)
            .await
            .map_err(unreachable)?;
        redis::cmd("PING")
            .query_async::<()>(&mut connection)
            .await
            .map_err(unreachable)?;
        Ok(Self {
            connection,
            client,
            keys: Keys::new(namespace),
            scripts: Arc::new(Scripts::load()),
        })
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

    /// What Redis may lose when it dies, in a sentence; `None` if it keeps everything, or does not say.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn weakness(&self) -> Result<Option<String>, Error> {
        let asked = redis::cmd("CONFIG")
            .arg("GET")
            .arg("append*")
            .query_async::<HashMap<String, String>>(&mut self.connection.clone())
            .await;
        let settings = match asked {
            Ok(settings) => settings,
            // Managed servers keep their settings to themselves.
            Err(error) if !error.is_unrecoverable_error() && !error.is_io_error() => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let setting = |name: &str| settings.get(name).map_or("unknown", String::as_str);
        Ok(match (setting("appendonly"), setting("appendfsync")) {
            ("yes", "always") => None,
            (only, sync) => Some(format!(
                "Redis may lose its last writes when it dies (appendonly {only}, appendfsync {sync}): jobs then run again. \
                 Set appendonly yes and appendfsync always"
            )),
        })
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

/// A time as scripts take it; beyond what fits, the longest that does.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
