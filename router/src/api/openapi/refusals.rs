//! Errors shared by all calls: each status is a component, and a type per kind of call lists its
//! statuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema};
use warmq_types::job::FieldError;

/// An error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `ApiError` writes")]
pub(in crate::api) struct Refusal {
    /// Message.
    detail: String,
    /// Stable name; also in the header `x-fal-error-type`.
    #[schema(example = "not_found")]
    error_type: String,
}

/// Mistakes in an input, by field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `ApiError` writes")]
pub(in crate::api) struct InvalidInput {
    detail: Vec<FieldError>,
}

/// Each status, the name of its component, and its description.
const STATUSES: [(u16, &str, &str); 14] = [
    (
        400,
        "BadRequest",
        "The request is invalid, or the job is in another state.",
    ),
    (401, "Unauthorized", "The request has no valid key."),
    (403, "Forbidden", "The key does not allow the request."),
    (
        404,
        "NotFound",
        "The object does not exist, or has expired.",
    ),
    (
        405,
        "MethodNotAllowed",
        "The path does not support this method; `allow` lists those that it supports.",
    ),
    (408, "TooSlow", "The body did not arrive in time."),
    (413, "TooLarge", "The body is too large (`--max-body`)."),
    (
        415,
        "Encoded",
        "The body is compressed; send it uncompressed.",
    ),
    (
        422,
        "InvalidInput",
        "A field of the input, a header or the app's name is invalid; or the app rejected the input.",
    ),
    (
        429,
        "TooMany",
        "The queue is full, or the key has exceeded its quota.",
    ),
    (
        499,
        "Cancelled",
        "The job was cancelled, or its client disconnected.",
    ),
    (
        500,
        "InternalError",
        "An internal error; see the logs of router and worker.",
    ),
    (
        503,
        "Unavailable",
        "A server is unreachable, or the job lost its runner too often.",
    ),
    (
        504,
        "TooLate",
        "The job did not start before its deadline, or ran for too long.",
    ),
];

/// Statuses with `Retry-After`.
const TEMPORARY: [u16; 2] = [429, 503];

/// Returns `components.responses`.
pub(super) fn components() -> Value {
    let responses = STATUSES.iter().map(|(status, name, description)| {
        let body = match status {
            422 => "InvalidInput",
            _ => "Refusal",
        };
        let mut headers = json!({
            "x-fal-error-type": {"description": "The error's stable name.", "schema": {"type": "string"}},
        });
        if TEMPORARY.contains(status) {
            headers["retry-after"] = json!({
                "description": "Time until a retry, s.",
                "schema": {"type": "integer", "minimum": 0},
            });
        }
        let response = json!({
            "description": description,
            "headers": headers,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{body}")}}},
        });
        ((*name).to_owned(), response)
    });
    Value::Object(responses.collect())
}

/// Returns references to the components of these statuses.
fn references(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let responses = STATUSES
        .iter()
        .filter(|(status, ..)| statuses.contains(status));
    responses
        .map(|(status, name, _)| {
            let reference = Ref::from_response_name(*name);
            (status.to_string(), RefOr::Ref(reference))
        })
        .collect()
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $call:ident: $($status:literal)+;)+) => {$(
        $(#[$doc])*
        pub(in crate::api) enum $call {}

        impl IntoResponses for $call {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                references(&[$($status),+])
            }
        }
    )+};
}

refusals! {
    /// Lists all.
    Listing: 401 403 500 503;
    /// As [`Listing`], limited by the query.
    Querying: 400 401 403 500 503;
    /// Concerns one object that may not exist, or be in another state.
    Finding: 400 401 403 404 500 503;
    /// Creates an object from the body.
    Creating: 400 401 403 408 413 422 500 503;
    /// Changes an object as the body says.
    Changing: 400 401 403 404 408 413 422 500 503;
    /// Uploads a file or a part of one.
    Uploading: 400 401 403 404 408 413 422 500 503;
    /// Submits a job.
    Submitting: 400 401 403 404 408 413 415 422 429 500 503;
    /// Returns a job's outcome.
    Outcome: 400 401 403 404 422 499 500 503 504;
    /// Accepts a job and returns its outcome.
    Running: 400 401 403 404 408 413 415 422 429 499 500 503 504;
    /// Any error of fal's calls.
    Proxied: 400 401 403 404 405 408 413 415 422 429 499 500 503 504;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_a_call_is_described() {
        for refused in [Running::responses(), Outcome::responses()] {
            for reference in refused.values() {
                let reference = serde_json::to_value(reference).unwrap();
                let name = reference["$ref"]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap();
                assert!(components()[name]["description"].is_string(), "{name}");
            }
        }
        assert_eq!(Running::responses().len(), 13);
    }
}
