//! Host names that a router without keys serves.
//!
//! By DNS rebinding, a web page of `evil.example` lets that name resolve to this machine and then
//! calls the router as its own origin: browsers allow it, and without keys it is an administrator.
//! Its requests contain the name in `Host`. An address cannot be rebound.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use url::Url;

use super::ApiError;
use crate::access::Keyring;

/// Paths served under any name: monitors use their own names, and pages gain nothing by them.
const ALWAYS: [&str; 2] = ["/healthz", "/readyz"];

/// Host names that a router without keys serves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hosts(Arc<Names>);

#[derive(Debug)]
struct Names {
    /// Host of `--public-url`.
    public: Option<String>,
    /// Names without a dot are served: those of containers, which no page can have.
    without_dot: bool,
}

impl Hosts {
    /// Returns the names of a router at `public_url`. `is_local`: it listens on loopback.
    pub fn new(public_url: &str, is_local: bool) -> Self {
        let public = Url::parse(public_url).ok();
        let public = public.and_then(|url| url.host_str().map(str::to_ascii_lowercase));
        Self(Arc::new(Names {
            public,
            without_dot: !is_local,
        }))
    }

    /// Returns whether `authority` (host, with the port if it is not the default) is served.
    fn include(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else {
            return false;
        };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback_name = host == "localhost" || host.ends_with(".localhost");
        address.parse::<IpAddr>().is_ok()
            || is_loopback_name
            || self.0.public.as_ref() == Some(&host)
            || (self.0.without_dot && !host.is_empty() && !host.contains('.'))
    }
}

/// Refuses requests under other names while no key is required.
pub(super) async fn check(
    State((keys, hosts)): State<(Keyring, Hosts)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if keys.require_keys() || ALWAYS.contains(&request.uri().path()) {
        return Ok(next.run(request).await);
    }
    let named = request.headers().get_all(header::HOST).iter();
    let named = named.map(|host| host.to_str().unwrap_or_default());
    let mut named = named.chain(request.uri().authority().map(Authority::as_str));
    if named.all(|authority| hosts.include(authority)) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::plain(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected_request",
        "without keys, this router serves only IP addresses, localhost and the host of --public-url: set --public-url to \
         the URL that you use, or create a key (`warmq keys create root --scope admin`)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_cannot_be_rebound_and_names_can() {
        let local = Hosts::new("https://warmq.example/sub", true);
        let open = Hosts::new("http://127.0.0.1:8080", false);
        for host in [
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "10.0.0.1",
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "app.localhost:8080",
        ] {
            assert!(local.include(host) && open.include(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost.example",
            "127.0.0.1@evil.example",
            "",
            "a b",
            "[evil.example]",
        ] {
            assert!(!local.include(host) && !open.include(host), "{host}");
        }
        assert!(local.include("WarmQ.example:443") && !open.include("warmq.example"));
        assert!(open.include("router:8080") && !local.include("router:8080"));
    }
}
