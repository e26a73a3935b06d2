//! A job's result as a response, and the headers of every response about a job.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use warmq_types::ids::JobId;
use warmq_types::job::{JobError, JobRecord};
use warmq_types::state::JobState;

use super::ApiError;
use crate::files::lifetime::expires_s;
use crate::files::{SignedUrls, references};

/// Returns the app's bare output, the job's error, or an error if it has not ended.
pub(super) fn result_response(mut record: JobRecord, signed_urls: &SignedUrls) -> Response {
    let mut response = match output(&mut record, signed_urls) {
        Ok(output) => Json(output).into_response(),
        Err(error) => ApiError::from(error).into_response(),
    };
    if response.status() == StatusCode::GATEWAY_TIMEOUT {
        // Set also for the operator's limit: otherwise fal's clients would retry a 504.
        let user = HeaderValue::from_static("user");
        (response.headers_mut()).insert("x-fal-request-timeout-type", user);
    }
    with_job_headers(response, record.spec.id, Some(&record))
}

/// Takes the output out of a record.
///
/// # Errors
/// The job has no output, or has not ended.
pub(super) fn output(record: &mut JobRecord, signed_urls: &SignedUrls) -> Result<Value, JobError> {
    if let Some(error) = record.failure() {
        return Err(finally(error));
    }
    if record.state != JobState::Succeeded {
        return Err(ApiError::bad_request("Request is still in progress").into());
    }
    let mut output = record.output.take().unwrap_or_default();
    references::to_signed_urls(&mut output, signed_urls, expires_s(record));
    record.spec.stamp_model_version(&mut output);
    Ok(output)
}

/// Maps the error of an ended job to a status that clients do not retry: fal's clients retry some
/// for 8 s, and a repeated `/run` would run the job again.
fn finally(error: JobError) -> JobError {
    let status = match error.status {
        408 | 409 | 425 | 429 | 502 | 503 => 500,
        status => status,
    };
    JobError { status, ..error }
}

/// Adds headers with the job's id and runner.
pub(super) fn with_job_headers(
    mut response: Response,
    id: JobId,
    record: Option<&JobRecord>,
) -> Response {
    let headers = response.headers_mut();
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert("x-fal-request-id", &id.to_string());
    if let Some(record) = record {
        if let Some(runner) = &record.runner {
            insert("x-warmq-runner", runner.as_str());
            insert("x-fal-served-from", runner.as_str());
        }
        if let Some(timings) = &record.timings {
            insert("x-warmq-warm", if timings.warm { "1" } else { "0" });
        }
    }
    response
}
