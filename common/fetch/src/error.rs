//! Errors of URLs that strangers give. Their texts are for the stranger: they name the URL's host
//! and nothing of the local network, not even whether a forbidden name exists.

/// Maximum length of a URL, bytes.
pub const LONGEST_URL: usize = 2048;

/// Why a URL was not fetched or called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is invalid.
    #[error("invalid URL: {0}")]
    Url(#[from] url::ParseError),
    /// It exceeds the maximum length.
    #[error("it is longer than {LONGEST_URL} characters")]
    TooLong,
    /// Its scheme is neither `http` nor `https`.
    #[error("it begins with '{0}:'; only http and https URLs can be reached")]
    Scheme(String),
    /// It contains a user name or password.
    #[error("it holds a user name or a password; leave them out")]
    Credentials,
    /// Its host is, or resolves to, a forbidden address, or to none.
    #[error("{host} has no address that may be reached from here")]
    Forbidden {
        /// The host, as the URL has it.
        host: String,
    },
    /// Nothing listens there, or its certificate is invalid.
    #[error("no connection to {host} could be made")]
    Connect {
        /// The host, as the URL has it.
        host: String,
    },
    /// The connection failed in another way.
    #[error("the connection to {host} broke")]
    Broken {
        /// The host, as the URL has it.
        host: String,
    },
    /// The time limit passed.
    #[error("there was no whole answer in time")]
    Timeout,
    /// The response is not 2xx.
    #[error("{host} answered {status}")]
    Status {
        /// The host, as the URL has it.
        host: String,
        /// The status.
        status: u16,
    },
    /// There are too many redirects.
    #[error("it is redirected more often than {0} times")]
    Redirects(usize),
    /// The body exceeds the limit.
    #[error("it is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit_bytes: usize,
    },
    /// No HTTP client can be created.
    #[error("the HTTP client cannot be built: {0}")]
    Client(reqwest::Error),
}
