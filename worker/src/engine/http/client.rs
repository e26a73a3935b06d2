//! The HTTP client for the operator's own model server. URLs that strangers give go through
//! `warmq-fetch` instead.

use std::time::Duration;

use reqwest::redirect::Policy;
use url::Url;
use warmq_types::hint::Hint;
use warmq_types::text::with_causes;

use super::hints;

/// Timeout of a connection attempt, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for the body of an error, whose status says enough.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers with the hints of the server: fal's, and warmq's own.
const HINTS: [&str; 2] = ["x-fal-runner-hints", "x-runner-hints"];

/// Why there is no complete response. The texts are for operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nothing accepts connections.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the response is not HTTP.
    #[error("broke the connection: {0}")]
    Broken(String),
    /// No byte arrived in time.
    #[error("did not respond within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The body exceeds the limit.
    #[error("sent more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit_bytes: usize,
    },
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let text = with_causes(&error);
        match error.is_connect() || error.is_builder() {
            true => Self::Unreachable(text),
            false => Self::Broken(text),
        }
    }
}

/// A client without connection reuse: a connection that the server closes meanwhile would break the
/// next job, and on the same machine a new one costs 0.1 ms.
#[derive(Debug, Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// The system has no usable TLS.
    pub(super) fn new() -> Result<Self, String> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("warmq-worker/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .no_proxy()
                .http1_only()
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT_TIMEOUT)
        };
        // Without certificate authorities, http still works.
        let client = builder().build();
        let client = client.or_else(|_| builder().tls_certs_only([]).build());
        client.map(Self).map_err(|error| with_causes(&error))
    }

    /// Gets `url`; `timeout` limits the time without a byte.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn get(&self, url: Url, timeout: Duration) -> Result<Response, Error> {
        send(self.0.get(url), timeout).await
    }

    /// Posts JSON; `timeout` limits the time without a byte.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn post(
        &self,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let mut request = self.0.post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value.into_bytes());
        }
        send(request.body(body), timeout).await
    }
}

async fn send(request: reqwest::RequestBuilder, timeout: Duration) -> Result<Response, Error> {
    let response = tokio::time::timeout(timeout, request.send()).await;
    Ok(Response {
        response: response.map_err(|_| Error::Timeout(timeout))??,
        timeout,
    })
}

/// A response whose body has not been read.
#[derive(Debug)]
pub(super) struct Response {
    response: reqwest::Response,
    timeout: Duration,
}

impl Response {
    /// Returns the status.
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns a header, if it is ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns whether a header is set to a true value.
    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.header(name).map(str::trim);
        matches!(value, Some("1" | "true"))
    }

    /// Returns the hints that the response reports, if it does.
    pub(super) fn hints(&self) -> Option<Vec<Hint>> {
        let headers = self.response.headers();
        HINTS.iter().find_map(|name| {
            let values = headers.get_all(*name).iter();
            hints::from_headers(values.map(|value| value.as_bytes()))
        })
    }

    /// Returns the next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection broke before the end, or no byte arrived in time.
    pub(super) async fn piece(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Error> {
        let piece = tokio::time::timeout(self.timeout, self.response.chunk()).await;
        Ok(piece.map_err(|_| Error::Timeout(self.timeout))??)
    }

    /// Reads the body.
    ///
    /// # Errors
    /// It exceeds `limit_bytes`, or as [`Response::piece`].
    pub(super) async fn body(mut self, limit_bytes: usize) -> Result<Vec<u8>, Error> {
        let too_large = Error::TooLarge { limit_bytes };
        let announced = self.response.content_length().unwrap_or(0);
        if usize::try_from(announced).map_or(true, |announced| announced > limit_bytes) {
            return Err(too_large);
        }
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            let piece = piece.as_ref();
            if body.len() + piece.len() > limit_bytes {
                return Err(too_large);
            }
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    /// Reads an error's body: its first `limit_bytes`, as far as they arrive within
    /// [`ERROR_TIMEOUT`].
    pub(super) async fn beginning(mut self, limit_bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(piece)) = self.piece().await {
                let piece = piece.as_ref();
                let room = limit_bytes - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if body.len() == limit_bytes {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(ERROR_TIMEOUT, read).await;
        body
    }
}
