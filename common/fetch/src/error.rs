//! What went wrong with a stranger's URL. The sentences are for that stranger: they name the URL's host, and nothing of the
//! network here, not even whether a name that may not be reached exists.

/// The longest URL that is taken, bytes.
pub const LONGEST_URL: usize = 2048;

/// Why a URL was not fetched or told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can not be read.
    #[error("it is no URL: {0}")]
    Url(#[from] url::ParseError),
    /// Nobody needs one like that.
    #[error("it is longer than {LONGEST_URL} characters")]
    TooLong,
    /// It begins with something else than `http` or `https`.
    #[error("it begins with '{0}:'; only http and https URLs can be reached")]
    Scheme(String),
    /// It holds a name or password.
    #[error("it holds a user name or a password; leave them out")]
    Credentials,
    /// Its host is, or resolves to, an address that strangers may not have reached; or to none at all.
    #[error("{host} has no address that may be reached from here")]
    Forbidden {
        /// As the URL has it.
        host: String,
    },
    /// Nobody listens there, or whoever does has no valid certificate.
    #[error("no connection to {host} could be made")]
    Connect {
        /// As the URL has it.
        host: String,
    },
    /// Something else happened to the connection.
    #[error("the connection to {host} broke")]
    Broken {
        /// As the URL has it.
        host: String,
    },
    /// It took too long.
    #[error("there was no whole answer in time")]
    Timeout,
    /// The host does not give it out.
    #[error("{host} answered {status}")]
    Status {
        /// As the URL has it.
        host: String,
        /// What it said instead.
        status: u16,
    },
    /// From redirect to redirect.
    #[error("it is redirected more often than {0} times")]
    Redirects(usize),
    /// More than was asked for.
    #[error("it is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for at most.
        limit_bytes: usize,
    },
    /// This machine can not make HTTP requests.
    #[error("there is no HTTP client: {0}")]
    Client(reqwest::Error),
}
