//! Why a file cannot be fetched; texts for the job's owner.

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
    Web(warmq_fetch::Error),
    #[error("the storage failed to read the file: {0}")]
    Storage(#[source] warmq_objects::Error),
}

impl From<warmq_fetch::Error> for Error {
    fn from(error: warmq_fetch::Error) -> Self {
        match error {
            warmq_fetch::Error::TooLarge { limit_bytes } => Self::TooLarge {
                max_bytes: limit_bytes,
            },
            other => Self::Web(other),
        }
    }
}
