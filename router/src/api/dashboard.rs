//! `/`: the dashboard. Its files are in this binary; a content security policy forbids others.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use url::Url;

use super::extract::Path;
use super::{Api, ApiError};

/// The files of the dashboard. A debug build reads them from the source tree at each request.
#[derive(RustEmbed)]
#[folder = "src/dashboard/assets"]
struct Assets;

/// The page; the others are views of it.
const PAGE: &str = "index.html";

/// Pages and assets of the dashboard: no API, so not in its documentation.
pub(super) fn routes(public_url: &str) -> Router<Api> {
    let policy: Arc<str> = policy(public_url).into();
    let of_page = policy.clone();
    Router::new()
        .route(
            "/",
            get(async move |headers: HeaderMap| show(PAGE, &headers, &of_page)),
        )
        .route(
            "/dashboard/{*file}",
            get(async move |Path(file): Path<String>, headers: HeaderMap| {
                show(&file, &headers, &policy)
            }),
        )
}

/// Returns the content security policy: nothing from other hosts except pictures under the public
/// URL, no framing, and no script from text.
fn policy(public_url: &str) -> String {
    let public = Url::parse(public_url).map(|url| url.origin().ascii_serialization());
    let public = public.unwrap_or_default();
    format!(
        "default-src 'self'; img-src 'self' data: blob: {public}; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'; object-src 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn show(file: &str, headers: &HeaderMap, policy: &str) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("the page does not exist");
    let found = Assets::get(file).ok_or_else(missing)?;
    let tag = format!("\"{}\"", hex::encode(found.metadata.sha256_hash()));
    let common = [
        // A new version of the router has new files: browsers check each time.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag.clone()),
        (header::CONTENT_SECURITY_POLICY, policy.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let content_type = [(header::CONTENT_TYPE, content_type(file))];
    Ok((common, content_type, found.data.into_owned()).into_response())
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_and_an_unchanged_one_is_not_sent_again() {
        for file in Assets::iter() {
            assert_ne!(content_type(&file), "application/octet-stream", "{file}");
        }
        let none = HeaderMap::new();
        let policy = policy("https://warmq.example/sub");
        assert!(
            policy.contains("data: blob: https://warmq.example;"),
            "{policy}"
        );
        let page = show(PAGE, &none, &policy).unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        let tag = page.headers()[header::ETAG].clone();
        let known = [(header::IF_NONE_MATCH, tag)].into_iter().collect();
        let page = show(PAGE, &known, &policy).unwrap();
        assert_eq!(page.status(), StatusCode::NOT_MODIFIED);
        assert!(show("../dashboard.rs", &none, &policy).is_err());
    }
}
