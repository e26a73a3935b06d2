//! Rules for web pages: CORS, and protection against forms of other sites.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowMethods, Any, CorsLayer};
use url::{Origin, Url};

use super::{Api, ApiError};

/// Cache lifetime of a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Response headers that pages may read.
const EXPOSED: [HeaderName; 7] = [
    HeaderName::from_static("x-fal-request-id"),
    HeaderName::from_static("x-fal-error-type"),
    HeaderName::from_static("x-fal-request-timeout-type"),
    HeaderName::from_static("x-fal-served-from"),
    HeaderName::from_static("x-warmq-runner"),
    HeaderName::from_static("x-warmq-warm"),
    HeaderName::from_static("retry-after"),
];

/// Allows pages of any origin and any headers, without cookies: a session serves the router's own
/// pages only ([`may_use_session`]).
pub(super) fn any() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE)
}

/// Refuses unsafe requests of pages of other sites: forms need no preflight, and without keys
/// nothing else would stop them.
pub(super) async fn own_pages_only(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match request.method().is_safe() || is_own(request.headers(), &api.public_url) {
        true => Ok(next.run(request).await),
        false => Err(ApiError::forbidden(
            "a web page of another site cannot do this; use the router's own address",
        )),
    }
}

/// Returns whether a request may use a browser's session. Browsers send its cookie with requests of
/// sibling sites, too; an unsafe request must therefore show that a page of this router sent it.
pub(super) fn may_use_session(method: &Method, headers: &HeaderMap, public_url: &str) -> bool {
    let shows_its_page = headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN);
    is_own(headers, public_url) && (method.is_safe() || shows_its_page)
}

/// Returns whether a request comes from a page of this router, or from no page.
fn is_own(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let fetched = headers.get("sec-fetch-site");
    if let Some(site) = fetched {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let Ok(origin) = Url::parse(origin.to_str().unwrap_or_default()) else {
        return false;
    };
    let of = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let addressed =
        text(header::HOST).and_then(|host| of(&format!("{}://{host}", origin.scheme())));
    let is_one = |own: Option<Origin>| own.is_some_and(|own| own == origin.origin());
    is_one(addressed) || is_one(of(public_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_serves_its_own_pages_only() {
        let may = |method: Method, name: &'static str, value: &'static str| {
            let named = [("host", "127.0.0.1:8080"), (name, value)];
            let named =
                named.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            may_use_session(
                &method,
                &named.into_iter().collect(),
                "http://127.0.0.1:8080",
            )
        };
        let site = "sec-fetch-site";
        assert!(may(Method::GET, "accept", "*/*") && !may(Method::POST, "accept", "*/*"));
        assert!(may(Method::POST, site, "same-origin") && !may(Method::GET, site, "same-site"));
        assert!(may(Method::DELETE, "origin", "http://127.0.0.1:8080"));
        assert!(!may(Method::GET, "origin", "http://127.0.0.1:3000"));
        assert!(!may(Method::PUT, site, "cross-site"));
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let is_own = |headers: &[(&'static str, &'static str)]| {
            let named = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            is_own(&named.collect(), "https://warmq.example/sub")
        };
        let host = ("host", "127.0.0.1:8080");
        for own in [
            &[host][..],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "http://127.0.0.1:8080")],
            &[host, ("origin", "https://warmq.example")],
        ] {
            assert!(is_own(own), "{own:?}");
        }
        for other in [
            &[host, ("sec-fetch-site", "cross-site")][..],
            &[host, ("sec-fetch-site", "same-site")],
            &[
                host,
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://127.0.0.1:8080"),
            ],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://127.0.0.1:3000")],
            &[host, ("origin", "https://evil.example")],
            &[("origin", "https://evil.example")],
        ] {
            assert!(!is_own(other), "{other:?}");
        }
    }
}
