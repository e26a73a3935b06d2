//! What a response means, by status and headers.

use serde_json::Value;
use warmq_types::job::{FieldError, JobError};
use warmq_types::text::shortened;

/// Length limit of a message from a server, bytes.
const MAX_MESSAGE_BYTES: usize = 2000;

/// fal's `error_type` for failures of a server.
pub(super) const SERVER_ERROR: &str = "runner_server_error";

/// The meaning of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The body is the result.
    Result,
    /// The body is the job's error: there is no further attempt.
    JobError,
    /// The server cannot run the job now: another attempt, on another runner if there is one.
    Retry,
}

/// Returns the meaning of a status. `needs_retry`: header `X-Fal-Needs-Retry`.
pub(super) fn meaning(status: u16, needs_retry: Option<&str>) -> Meaning {
    let needs_retry = needs_retry.map(|value| matches!(value.trim(), "1" | "true"));
    match (status, needs_retry) {
        (_, Some(true)) => Meaning::Retry,
        (200..=299, _) => Meaning::Result,
        (503 | 504, None) => Meaning::Retry,
        _ => Meaning::JobError,
    }
}

/// What a body of a result contains, by its content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON, or nothing.
    Json,
    /// Server-sent events.
    Events,
    /// A file of this type.
    File(String),
    /// Anything else: an error of the server.
    Other(String),
}

/// Returns the content of a result. Without a content type it must be JSON.
pub(super) fn content(content_type: Option<&str>) -> Content {
    let full = content_type.unwrap_or("application/json");
    let essence = full.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let top = essence.split('/').next().unwrap_or_default();
    match (top, essence.as_str()) {
        (_, "application/json") => Content::Json,
        (_, json) if json.ends_with("+json") => Content::Json,
        (_, "text/event-stream") => Content::Events,
        ("image" | "video" | "audio", _) => Content::File(essence),
        (_, "application/octet-stream") => Content::File(essence),
        _ => Content::Other(essence),
    }
}

/// Returns the job's error in a response of the server.
pub(super) fn job_error(status: u16, body: &[u8]) -> JobError {
    if (300..=399).contains(&status) {
        let message = "the model server redirects, and the worker follows no redirects";
        return with_status(502, SERVER_ERROR, message.to_owned());
    }
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(_) => Value::String(String::from_utf8_lossy(body).trim().to_owned()),
    };
    let detail = body.get("detail").unwrap_or(&body);
    let fields: Option<Vec<FieldError>> = serde_json::from_value(detail.clone()).ok();
    if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
        return JobError {
            status,
            ..JobError::fields(fields)
        };
    }
    let error_type = body.get("error_type").and_then(Value::as_str);
    let default_type = match status {
        500.. => SERVER_ERROR,
        _ => "bad_request",
    };
    let message = match message(&body) {
        empty if empty.is_empty() => format!("the model server responded {status}"),
        message => message,
    };
    with_status(status, error_type.unwrap_or(default_type), message)
}

/// Returns the message in an error's body: FastAPI's and fal's `detail`, OpenAI's `error.message`,
/// or the body itself.
fn message(body: &Value) -> String {
    let candidates = ["/detail", "/error/message", "/error", "/message"];
    let found = candidates
        .iter()
        .find_map(|pointer| body.pointer(pointer)?.as_str())
        .or_else(|| body.as_str());
    let text = found.map_or_else(|| body.to_string(), str::to_owned);
    shortened(text, MAX_MESSAGE_BYTES)
}

/// Returns an error of the server that would occur again.
pub(super) fn server_error(message: impl Into<String>) -> JobError {
    with_status(502, SERVER_ERROR, message.into())
}

fn with_status(status: u16, error_type: &str, message: String) -> JobError {
    JobError {
        status,
        error_type: error_type.to_owned(),
        message,
        detail: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_servers_own_unavailability_is_retried() {
        for (status, needs_retry, expected) in [
            (200, None, Meaning::Result),
            (204, None, Meaning::Result),
            (404, None, Meaning::JobError),
            (429, None, Meaning::JobError),
            (500, None, Meaning::JobError),
            (502, None, Meaning::JobError),
            (307, None, Meaning::JobError),
            (503, None, Meaning::Retry),
            (504, None, Meaning::Retry),
            (500, Some("1"), Meaning::Retry),
            (502, Some("true"), Meaning::Retry),
            (503, Some("0"), Meaning::JobError),
            (500, Some("0"), Meaning::JobError),
        ] {
            let found = meaning(status, needs_retry);
            assert_eq!(found, expected, "{status} {needs_retry:?}");
        }
    }

    #[test]
    fn the_content_type_decides_what_a_result_is() {
        assert_eq!(content(None), Content::Json);
        assert_eq!(
            content(Some("Application/JSON; charset=utf-8")),
            Content::Json
        );
        assert_eq!(content(Some("text/event-stream")), Content::Events);
        assert_eq!(
            content(Some("image/png")),
            Content::File("image/png".to_owned())
        );
        assert_eq!(
            content(Some("text/html")),
            Content::Other("text/html".to_owned())
        );
    }

    #[test]
    fn errors_keep_status_fields_and_message() {
        let fields = json!({"detail": [{"loc": ["body", "a"], "msg": "wrong", "type": "value"}]});
        let error = job_error(422, fields.to_string().as_bytes());
        assert_eq!((error.status, error.body()), (422, fields));
        let text = |status, body: Value| job_error(status, body.to_string().as_bytes()).message;
        assert_eq!(text(400, json!({"detail": "no"})), "no");
        assert_eq!(text(400, json!({"error": {"message": "no"}})), "no");
        assert_eq!(text(500, json!({"error": "no"})), "no");
        assert_eq!(job_error(500, b"Internal Server Error").status, 500);
        assert_eq!(
            job_error(404, b"").message,
            "the model server responded 404"
        );
        assert_eq!(job_error(302, b"").status, 502);
        assert!(job_error(500, &[b'x'; 100_000]).message.len() < 2100);
    }
}
