//! A submission by HTTP: path, query, and headers under fal's names or warmq's.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;
use warmq_types::job::Priority;
use warmq_types::text::utf8_or_latin1;

use super::extract::{Path, Query};
use super::{Api, ApiError, endpoint_ids};
use crate::memory::HeldBytes;
use crate::submit::Submission;

/// Query of the URL; the last duplicate counts.
type Flags = HashMap<String, String>;

/// Headers hidden from routes.
const SECRETS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
];

/// Target of a submission.
#[derive(Deserialize)]
struct Address {
    owner: String,
    app: String,
    #[serde(default)]
    path: String,
}

/// Body of a submission.
pub(super) const INPUT: &str = "The app's input. An empty body is an empty object.";

/// An endpoint of the app.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `Address` reads")]
pub(super) struct SubPath {
    /// Path within the app. It may have several segments, which OpenAPI cannot express.
    #[param(min_length = 1)]
    path: String,
}

/// Options of a submission. Headers `x-fal-…` may be written `x-…`, too.
#[derive(IntoParams)]
#[into_params(parameter_in = Header, rename_all = "kebab-case")]
#[expect(dead_code, reason = "documents what `SubmitRequest` reads")]
pub(super) struct SubmitHeaders {
    /// What the job needs, usually a model's name, at most 256 bytes of UTF-8. A runner that has it
    /// is preferred. A model named in the input takes precedence.
    #[param(required = false, max_length = 256, example = "shapes")]
    x_fal_runner_hint: String,
    /// `low` runs only while no normal job waits, regardless of the job's bounds.
    #[param(required = false, inline)]
    x_fal_queue_priority: Priority,
    /// Maximum hold for a warm runner: seconds (`2.5`), or with a unit (`500ms`, `2m`). A job of
    /// priority `low` still waits for normal ones.
    #[param(required = false, example = "2.5")]
    x_max_warm_wait: String,
    /// Time after its acceptance within which the job must start; as `x-max-warm-wait`, and more
    /// than 0.
    #[param(required = false, example = "30")]
    x_fal_request_start_timeout: String,
    /// Older name of `x-fal-request-start-timeout`, which takes precedence.
    #[param(required = false, example = "30")]
    x_fal_request_timeout: String,
    /// `1`, `true` or `yes`: at most one attempt, even if its runner is lost.
    #[param(
        required = false,
        pattern = "^(0|1|false|true|no|yes|)$",
        example = "1"
    )]
    x_fal_no_retry: String,
    /// `0`: the input is never shown and is deleted with the job's end, the output soon after.
    #[param(
        required = false,
        pattern = "^(0|1|false|true|no|yes|)$",
        example = "1"
    )]
    x_fal_store_io: String,
    /// W3C trace context that the job's spans continue; an invalid one is ignored.
    #[param(
        required = false,
        example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    )]
    traceparent: String,
    /// Idempotency key: a repeated submission with the same key is the same job.
    #[param(required = false, min_length = 1, max_length = 255)]
    idempotency_key: String,
}

/// Query options of a submission.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `SubmitRequest` reads")]
pub(super) struct SubmitQuery {
    /// Refuses the job with 429 if more wait already.
    #[param(required = false, format = "uint64")]
    fal_max_queue_length: u64,
}

/// An unchecked submission.
pub(super) struct SubmitRequest(pub(super) Submission);

impl FromRequest<Api> for SubmitRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Path(Address { owner, app, path }) = Path::from_request_parts(&mut parts, api).await?;
        // Decoded here, unlike where paths are resolved.
        if endpoint_ids::is_reserved(&path) {
            return Err(ApiError::not_found("there is nothing at this path"));
        }
        let Query(mut query) = Query::<Flags>::from_request_parts(&mut parts, api).await?;
        let submission = read(Request::from_parts(parts, body), api).await?;
        Ok(Self(Submission {
            app: format!("{owner}/{app}"),
            path,
            max_queue_length: query.remove("fal_max_queue_length"),
            webhook: query.remove("fal_webhook"),
            ..submission
        }))
    }
}

/// Reads body and headers of a submission.
///
/// # Errors
/// The body is too large, or does not arrive.
pub(super) async fn read(request: Request, api: &Api) -> Result<Submission, ApiError> {
    let headers = request.headers().clone();
    let held = request.extensions().get::<HeldBytes>().cloned();
    let body = Bytes::from_request(request, api).await;
    let body = body.map_err(|rejection| unreadable(&rejection, api))?;
    Ok(Submission {
        body,
        held,
        content_encoding: text_of(&headers, "content-encoding"),
        hint: header(&headers, "runner-hint"),
        priority: header(&headers, "queue-priority"),
        max_warm_wait: header(&headers, "max-warm-wait"),
        start_timeout: header(&headers, "request-start-timeout"),
        request_timeout: header(&headers, "request-timeout"),
        idempotency_key: text_of(&headers, "idempotency-key"),
        store_io: header(&headers, "store-io"),
        lifecycle: header(&headers, "object-lifecycle-preference")
            .or_else(|| header(&headers, "object-lifecycle")),
        no_retry: header(&headers, "no-retry"),
        headers: shown_to_routes(&headers),
        ..Submission::default()
    })
}

/// Converts a body error.
pub(super) fn unreadable(rejection: &BytesRejection, api: &Api) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(api.max_body_bytes),
        _ => ApiError::bad_request(rejection.body_text()),
    }
}

/// Returns the headers that routes may read: all except credentials.
fn shown_to_routes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = headers.iter().filter(|(name, _)| !SECRETS.contains(name));
    shown
        .map(|(name, value)| (name.as_str().to_owned(), utf8_or_latin1(value.as_bytes())))
        .collect()
}

/// Returns a header under fal's name (`X-Fal-…`) or warmq's (`X-…`).
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = |prefix: &str| text_of(headers, &format!("{prefix}{name}"));
    text("x-fal-").or_else(|| text("x-"))
}

/// Returns a header as text: browsers and many libraries send Latin-1.
pub(super) fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(utf8_or_latin1(headers.get(name)?.as_bytes()))
}
