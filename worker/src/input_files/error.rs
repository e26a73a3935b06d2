//! Why a file cannot be fetched; texts for the job's owner.

use warmq_fetch::Error as Web;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("not a file reference: expected a data: URI or an http(s):// URL")]
    NoSource,
    #[error("a data: URI is not supported here: expected an http(s):// URL")]
    NoUrl,
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
    #[error("the runner cannot keep the file: its disk failed or is full")]
    Disk(#[source] std::io::Error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_and_silent_hosts_are_unavailable_for_now_and_other_failures_are_final() {
        let host = || "example.com".to_owned();
        let is_temporary = |error: Web| matches!(Error::from(error), Error::Unavailable(_));
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let host = host();
            assert!(is_temporary(Web::Status { host, status }), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 410, 501] {
            let host = host();
            assert!(!is_temporary(Web::Status { host, status }), "{status}");
        }
        assert!(is_temporary(Web::Timeout) && is_temporary(Web::Broken { host: host() }));
        // The URL's port may be wrong, or its certificate invalid.
        assert!(!is_temporary(Web::Connect { host: host() }));
        let too_large = Error::from(Web::TooLarge { limit_bytes: 7 });
        assert!(matches!(too_large, Error::TooLarge { max_bytes: 7 }));
    }
}
