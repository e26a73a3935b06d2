//! Why a file can not be had, in words for the job's owner.

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it names no file: a data: URI or an http(s):// URL is expected")]
    NoSource,
    #[error("the data: URI can not be read: {0}")]
    Data(String),
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("there is no such file (any more)")]
    NotFound,
    #[error("the file can not be fetched: {0}")]
    Web(warmq_fetch::Error),
    #[error("the storage does not give out the file: {0}")]
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
