//! Names that a router without keys answers to.
//!
//! By DNS rebinding, a web page from `evil.example` has that name resolve to this machine and then
//! calls the router as its own origin: no browser holds it back, and without keys it is an
//! administrator. Its requests still carry the name in `Host`. An address instead of a name cannot
//! be rebound.

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

/// Answered under any name: monitors use names of their own, and the answers help no page.
const ALWAYS: [&str; 2] = ["/healthz", "/readyz"];

/// Names that a router without keys answers to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hosts(Arc<Names>);

#[derive(Debug)]
struct Names {
    /// The host of `--public-url`.
    public: Option<String>,
    /// Names without a dot are answered to: those of containers in a network of their own, which no
    /// page has.
    without_dot: bool,
}

impl Hosts {
    /// Of a router whose URLs begin with `public_url`. `is_local`: it listens on loopback.
    pub fn new(public_url: &str, is_local: bool) -> Self {
        let public = Url::parse(public_url).ok();
        let public = public.and_then(|url| url.host_str().map(str::to_ascii_lowercase));
        Self(Arc::new(Names {
            public,
            without_dot: !is_local,
        }))
    }

    /// Whether `authority` (host, and port if it is not the scheme's own) is one of them.
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

/// Refuses requests under other names while no key is asked for.
pub(super) async fn check(
    State((keys, hosts)): State<(Keyring, Hosts)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if keys.asks() || ALWAYS.contains(&request.uri().path()) {
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
        "this router asks nobody for a key, so it answers to addresses, localhost and its --public-url only: start it with \
         --public-url and the name that you use, or make a key (`warmq keys create root --scope admin`)",
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
