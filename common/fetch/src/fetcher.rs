//! The client: every URL is checked before a connection is opened, every name after it was
//! resolved.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use url::{Host, Url};

use crate::allowed::Allowed;
use crate::error::{Error, LONGEST_URL};
use crate::resolver::{Gated, NoAddress};

/// Timeout of a connection attempt, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of redirects that [`Fetcher::get`] follows.
const MOST_REDIRECTS: usize = 3;

/// A cheap handle to the client and the allowed ranges.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    allowed: Arc<Allowed>,
}

/// A fetched resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The body.
    pub bytes: Bytes,
    /// The content type, if the host gives one.
    pub content_type: Option<String>,
}

impl Fetcher {
    /// Returns a client for public addresses and `allowed`.
    ///
    /// # Errors
    /// No HTTP client can be created.
    pub fn new(allowed: Allowed) -> Result<Self, Error> {
        let allowed = Arc::new(allowed);
        let client = builder(&allowed).build().or_else(|error| {
            // Without certificates, http still works, and the router accepts jobs.
            tracing::warn!(%error, "no https URL can be reached: install CA certificates (Debian: ca-certificates)");
            builder(&allowed).tls_certs_only([]).build()
        });
        Ok(Self {
            client: client.map_err(Error::Client)?,
            allowed,
        })
    }

    /// Checks everything about a URL that needs no resolution.
    ///
    /// # Errors
    /// The URL cannot be reached from here.
    pub fn check(&self, url: &str) -> Result<(), Error> {
        self.target(url).map(drop)
    }

    /// Fetches at most `max_bytes` from `url` within `timeout`. Up to 3 redirects are followed,
    /// each checked as `url` is.
    ///
    /// # Errors
    /// See [`Error`]. A response that is not 2xx is one.
    pub async fn get(
        &self,
        url: &str,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Fetched, Error> {
        let fetched = async { self.open(url, max_bytes).await?.read().await };
        match tokio::time::timeout(timeout, fetched).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Error::Timeout),
        }
    }

    /// As [`Fetcher::get`], but leaves the body of the response to be read, and time to the caller.
    ///
    /// # Errors
    /// As [`Fetcher::get`].
    pub async fn open(&self, url: &str, max_bytes: usize) -> Result<Resource, Error> {
        let response = self.follow(self.target(url)?).await?;
        let host = host(response.url());
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(Error::Status { host, status });
        }
        let announced = response.content_length().unwrap_or(0);
        if usize::try_from(announced).map_or(true, |announced| announced > max_bytes) {
            return Err(Error::TooLarge {
                limit_bytes: max_bytes,
            });
        }
        Ok(Resource {
            response,
            host,
            max_bytes,
            read_bytes: 0,
        })
    }

    /// Posts `body` to `url` and returns the status, 3xx too, within `timeout`. The response's body
    /// is not read.
    ///
    /// # Errors
    /// See [`Error`]: there is no response.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<StatusCode, Error> {
        let target = self.target(url)?;
        let host = host(&target);
        let request = self.client.post(target).headers(headers).body(body);
        let answer = request.timeout(timeout).send().await;
        Ok(answer.map_err(|error| for_strangers(error, host))?.status())
    }

    async fn follow(&self, mut target: Url) -> Result<Response, Error> {
        for _ in 0..=MOST_REDIRECTS {
            let response = self.client.get(target.clone()).send().await;
            let response = response.map_err(|error| for_strangers(error, host(&target)))?;
            match redirect(&response) {
                Some(location) => target = self.checked(target.join(location)?)?,
                None => return Ok(response),
            }
        }
        Err(Error::Redirects(MOST_REDIRECTS))
    }

    fn target(&self, url: &str) -> Result<Url, Error> {
        if url.len() > LONGEST_URL {
            return Err(Error::TooLong);
        }
        self.checked(Url::parse(url)?)
    }

    /// Every notation of an IPv4 address (`2130706433`, `0x7f.1`, `127.0.0.1.`) has been parsed as
    /// one at this point, as in WHATWG URLs.
    fn checked(&self, url: Url) -> Result<Url, Error> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Scheme(url.scheme().chars().take(20).collect()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Credentials);
        }
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        match address {
            Some(address) if !self.allowed.reaches(address) => {
                Err(Error::Forbidden { host: host(&url) })
            }
            _ => Ok(url),
        }
    }
}

fn builder(allowed: &Arc<Allowed>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("warmq/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Gated(allowed.clone())))
        .redirect(Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Returns the target of a redirect.
fn redirect(response: &Response) -> Option<&str> {
    let location = response.headers().get(LOCATION)?;
    match response.status().is_redirection() {
        true => location.to_str().ok(),
        false => None,
    }
}

/// A successful response whose body is still to be read.
#[derive(Debug)]
pub struct Resource {
    response: Response,
    host: String,
    max_bytes: usize,
    read_bytes: usize,
}

impl Resource {
    /// Returns what changes with the resource: its tag, time of modification and length; `None` if
    /// the host gives none of them.
    pub fn version(&self) -> Option<String> {
        let length = self.response.content_length();
        let known = [
            self.header(&ETAG),
            self.header(&LAST_MODIFIED),
            length.map(|length| length.to_string()),
        ];
        let is_known = known.iter().any(Option::is_some);
        is_known.then(|| known.map(Option::unwrap_or_default).join("\n"))
    }

    /// Returns the next piece of the body; `None` after the last one.
    ///
    /// # Errors
    /// The connection broke, or the body exceeds the limit.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.response.chunk().await;
        let chunk = chunk.map_err(|error| for_strangers(error, self.host.clone()))?;
        self.read_bytes += chunk.as_ref().map_or(0, Bytes::len);
        if self.read_bytes > self.max_bytes {
            return Err(Error::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        Ok(chunk)
    }

    async fn read(mut self) -> Result<Fetched, Error> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched {
            bytes: bytes.freeze(),
            content_type: self.header(&CONTENT_TYPE),
        })
    }

    fn header(&self, name: &HeaderName) -> Option<String> {
        let value = self.response.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    }
}

/// Classifies the client's error for a stranger. Its URL may contain a secret, so no log has it.
fn for_strangers(error: reqwest::Error, host: String) -> Error {
    let error = error.without_url();
    tracing::debug!(host, ?error, "a stranger's URL could not be reached");
    if is_gated(&error) {
        Error::Forbidden { host }
    } else if error.is_timeout() {
        Error::Timeout
    } else if error.is_connect() {
        Error::Connect { host }
    } else {
        Error::Broken { host }
    }
}

/// Returns whether the resolver returned no address.
fn is_gated(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NoAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}
