//! Refusals of Redis, with their remedies.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis is unusable although it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong user or password.
    #[error(
        "refused the user or the password: correct them in --redis-url / WARMQ_REDIS_URL \
         (redis://user:password@host:6379/0; in a URL @ is written %40, / %2f, # %23)"
    )]
    Login,
    /// The server requires a password and the URL has none.
    #[error(
        "asks for a password: write it into --redis-url / WARMQ_REDIS_URL \
         (redis://:password@host:6379/0)"
    )]
    NoLogin,
    /// The database number does not exist.
    #[error(
        "has no such database: end --redis-url / WARMQ_REDIS_URL with a number from 0 to 15, unless \
         `databases` in redis.conf allows more"
    )]
    NoDatabase,
    /// Its access rules forbid the user what warmq does.
    #[error(
        "does not let its user do what warmq needs ({0}): grant keys, channels and scripts (`ACL SETUSER \
         NAME ~NAMESPACE:* &NAMESPACE:* +@all -@dangerous`)"
    )]
    Forbidden(String),
    /// It is a Redis Cluster.
    #[error(
        "is a Redis Cluster, which warmq does not support: name a single Redis, with replicas if you like"
    )]
    Cluster,
    /// It is a replica.
    #[error("is a read-only replica: name its primary in --redis-url / WARMQ_REDIS_URL")]
    Replica,
    /// Its memory is exhausted.
    #[error(
        "is full: raise its maxmemory, or submit less at once; ended jobs leave after their retention"
    )]
    Full,
    /// It accepts no writes for another reason.
    #[error("takes no writes ({0}): see its log")]
    NoWrites(String),
    /// Published messages do not arrive.
    #[error(
        "does not deliver what is published on a channel: is a proxy between that does not pass pub/sub?"
    )]
    NoMessages,
    /// The port does not use TLS.
    #[error("does not speak TLS on this port: write redis:// instead of rediss://")]
    NotTls,
}

impl Refusal {
    /// Parses a client's error; `None` if Redis did not answer, or for any other error.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        let detail = || error.detail().unwrap_or_default().to_owned();
        Some(match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Login,
            ErrorKind::Io if error.to_string().contains("InvalidContentType") => Self::NotTls,
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::ClusterDown => Self::Cluster,
                ServerErrorKind::NoPerm => Self::Forbidden(detail()),
                ServerErrorKind::ReadOnly => Self::Replica,
                ServerErrorKind::ResponseError => return Self::of_text(&error.to_string()),
                _ => return None,
            },
            _ => match error.code()? {
                "NOAUTH" => Self::NoLogin,
                "WRONGPASS" => Self::Login,
                "OOM" => Self::Full,
                "MISCONF" | "NOREPLICAS" => Self::NoWrites(detail()),
                _ => return None,
            },
        })
    }

    /// Parses the causes that only the text contains.
    fn of_text(text: &str) -> Option<Self> {
        if text.contains("switch database") || text.contains("DB index") {
            return Some(Self::NoDatabase);
        }
        // A script's error names the refused command.
        let says = |words: &str| text.contains(words);
        match () {
            () if says("ACL failure") || says("NOPERM") => Some(Self::Forbidden(text.to_owned())),
            () if says("OOM ") => Some(Self::Full),
            () if says("READONLY") => Some(Self::Replica),
            () => None,
        }
    }

    /// Returns whether retrying is useless: settings must change, here or in Redis.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Login
            | Self::NoLogin
            | Self::NoDatabase
            | Self::Forbidden(_)
            | Self::Cluster
            | Self::NoMessages
            | Self::NotTls => true,
            // A replica may be promoted, and a full server given room.
            Self::Replica | Self::Full | Self::NoWrites(_) => false,
        }
    }
}
