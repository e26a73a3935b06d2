//! A job as an HTTP request asks for it: the path, fal's query, and headers under fal's names and ours.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;

use super::{Api, ApiError};
use crate::submit::Submission;

/// What stands behind the `?`; the last one counts.
type Flags = HashMap<String, String>;

/// Headers that no route sees.
const SECRETS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
];

/// Where a submission goes.
#[derive(Deserialize)]
struct Address {
    owner: String,
    app: String,
    #[serde(default)]
    path: String,
}

/// What a request asks for, nothing checked.
pub(super) struct Asked(pub(super) Submission);

impl FromRequest<Api> for Asked {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let address = Path::<Address>::from_request_parts(&mut parts, api).await;
        let Path(Address { owner, app, path }) =
            address.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let query = Query::<Flags>::from_request_parts(&mut parts, api).await;
        let Query(mut query) =
            query.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), api).await;
        let body = body.map_err(|rejection| unreadable(&rejection, api))?;
        Ok(Self(Submission {
            app: format!("{owner}/{app}"),
            path,
            body: body.to_vec(),
            hint: header(&headers, "runner-hint")?,
            priority: header(&headers, "queue-priority")?,
            max_warm_wait: header(&headers, "max-warm-wait")?,
            start_timeout: header(&headers, "request-timeout")?,
            idempotency_key: text_of(&headers, "idempotency-key")?,
            store_io: header(&headers, "store-io")?,
            max_queue_length: query.remove("fal_max_queue_length"),
            no_retry: header(&headers, "no-retry")?,
            headers: shown_to_routes(&headers),
            ..Submission::default()
        }))
    }
}

fn unreadable(rejection: &BytesRejection, api: &Api) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(api.max_body_bytes),
        _ => ApiError::bad_request(rejection.body_text()),
    }
}

/// What routes may look at: all headers that are text, except those that say who somebody is.
fn shown_to_routes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = headers.iter().filter(|(name, _)| !SECRETS.contains(name));
    shown
        .filter_map(|(name, value)| {
            let text = std::str::from_utf8(value.as_bytes()).ok()?;
            Some((name.as_str().to_owned(), text.to_owned()))
        })
        .collect()
}

/// A header under fal's name (`X-Fal-…`) or ours (`X-…`), as UTF-8.
fn header(headers: &HeaderMap, name: &str) -> Result<Option<String>, ApiError> {
    match text_of(headers, &format!("x-fal-{name}"))? {
        None => text_of(headers, &format!("x-{name}")),
        found => Ok(found),
    }
}

/// A header as UTF-8.
fn text_of(headers: &HeaderMap, name: &str) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(ApiError::bad_request(format!("header {name} is not UTF-8"))),
    }
}
