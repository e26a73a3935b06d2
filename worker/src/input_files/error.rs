//! Why a file cannot be fetched; texts for the job's owner.

use warmq_fetch::Error as Web;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("not a file reference: expected a data: URI or an http(s):// URL")]
    NoSource,
    #[error("invalid data: URI: {0}")]
    Data(String),
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("file not found or expired")]
    NotFound,
    #[error("the file cannot be fetched: {0}")]
    Web(Web),
    #[error("the file cannot be fetched now: {0}; submit the job again later, or upload the file")]
    Unavailable(Web),
    #[error("the storage failed to read the file: {0}")]
    Storage(#[source] warmq_objects::Error),
}

impl From<Web> for Error {
    fn from(error: Web) -> Self {
        match error {
            Web::TooLarge { limit_bytes } => Self::TooLarge {
                max_bytes: limit_bytes,
            },
            // Too early, too many requests, and failures of the host or of a proxy before it.
            Web::Timeout
            | Web::Broken { .. }
            | Web::Status {
                status: 408 | 425 | 429 | 500 | 502..=504,
                ..
            } => Self::Unavailable(error),
            other => Self::Web(other),
        }
    }
}
