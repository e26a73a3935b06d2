//! Errors shared by all calls: each status is a component, and a type per kind of call lists its
//! statuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema};
use warmq_types::job::FieldError;

/// Why a call came to nothing.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `ApiError` writes")]
pub(in crate::api) struct Refusal {
    /// A sentence.
    detail: String,
    /// A stable name for it; also in the header `x-fal-error-type`.
    #[schema(example = "not_found")]
    error_type: String,
}

/// What is wrong with an input, field by field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `ApiError` writes")]
pub(in crate::api) struct InvalidInput {
    detail: Vec<FieldError>,
}

/// Each status, the name of its component, and what it means.
const STATUSES: [(u16, &str, &str); 14] = [
    (
        400,
        "BadRequest",
        "The request cannot be read, or the job is not where it would have to be for it.",
    ),
    (
        401,
        "Unauthorized",
        "This router requires a key, and the request has no valid one.",
    ),
    (403, "Forbidden", "The request's key does not allow that."),
    (404, "NotFound", "There is no such thing (any more)."),
    (
        405,
        "MethodNotAllowed",
        "The path does not take this method; `allow` says which it takes.",
    ),
    (408, "TooSlow", "The body took too long to come."),
    (
        413,
        "TooLarge",
        "The body is larger than the router takes (`--max-body`).",
    ),
    (415, "Encoded", "The body is compressed; send it as it is."),
    (
        422,
        "InvalidInput",
        "A field of the input, a header or the app's name is wrong; or the app found the input to be.",
    ),
    (
        429,
        "TooMany",
        "As many jobs wait as are allowed to, or the key's holder has submitted as much as it may for now.",
    ),
    (
        499,
        "Cancelled",
        "The job was cancelled, or whoever waited for it went away.",
    ),
    (
        500,
        "InternalError",
        "Something is wrong here; the logs of router and worker say what.",
    ),
    (
        503,
        "Unavailable",
        "A server that is needed does not answer, or the job lost its runner too often.",
    ),
    (
        504,
        "TooLate",
        "The job did not start before its deadline, or ran for too long.",
    ),
];

/// Statuses that a client may try again after a while.
const TEMPORARY: [u16; 2] = [429, 503];

/// `components.responses`.
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
                "description": "After how many seconds to try again.",
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

/// References to the components of these statuses.
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
    /// Shows what is there.
    Listing: 401 403 500 503;
    /// As [`Listing`], of what the query says.
    Asking: 400 401 403 500 503;
    /// Is about one thing that may not be there, or not be fit for it.
    Finding: 400 401 403 404 500 503;
    /// Makes something of what the body says.
    Making: 400 401 403 408 413 422 500 503;
    /// Takes a file, or a part of one.
    Bringing: 400 401 403 404 408 413 422 500 503;
    /// Takes a job.
    Submitting: 400 401 403 404 408 413 415 422 429 500 503;
    /// Returns a job's outcome.
    Outcome: 400 401 403 404 422 499 500 503 504;
    /// Accepts a job and returns its outcome.
    Running: 400 401 403 404 408 413 415 422 429 499 500 503 504;
    /// Whatever fal's calls refuse.
    Proxied: 400 401 403 404 405 408 413 415 422 429 499 500 503 504;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_a_call_names_is_told() {
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
