//! Errors of Redis, with their remedies.

use warmq_process::tls;
use warmq_types::protocol::Incompatible;
use warmq_types::server_url::ServerUrl;

use super::Refusal;

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
    /// Live routers or workers cannot work with this build.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
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
    pub(super) fn refused(url: &ServerUrl, refusal: Refusal) -> Self {
        Self::Refused {
            url: url.to_string(),
            refusal,
        }
    }

    /// Classifies a failure of the first commands to the server at `url`.
    pub(super) fn at(url: &ServerUrl, error: redis::RedisError) -> Self {
        let reason = tls::certificate_error(&error);
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
            Self::Untrusted { .. } | Self::Damaged { .. } | Self::Incompatible(_) => true,
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
            Self::Incompatible(refusal) => refusal.to_string(),
        }
    }

    /// Returns whether the stored data is to blame, so that retrying is useless.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(super) fn damaged(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }
}
