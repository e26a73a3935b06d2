//! Posts a job to the model server and reads its result.

use serde_json::Value;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::job::{JobError, JobSpec};
use warmq_types::text::shortened;

use super::client::{Error, Response};
use super::output;
use super::request;
use super::response::{Content, Meaning, content, job_error, meaning, server_error};
use super::server::Server;
use super::sse::Events;
use crate::engine::{Failure, Produced};
use crate::fault::Fault;

/// Size limit of a result, files included, bytes.
const MAX_RESULT_BYTES: usize = 128 << 20;

/// Size limit of an error's body, bytes; the rest is not read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Length limit of an error's body in the log, bytes.
const MAX_LOGGED_BYTES: usize = 500;

/// Header that overrides what a status means.
const NEEDS_RETRY: &str = "x-fal-needs-retry";

/// Posts the job and returns its result. `on_event` receives each server-sent event but the last,
/// which is the result.
///
/// # Errors
/// The job's error, or the server's fault.
pub(super) async fn call(
    server: &Server,
    job: &JobSpec,
    on_event: &mut dyn FnMut(Value),
) -> Result<Produced, Failure> {
    let options = &server.options;
    let Some(url) = request::url(&server.base()?, &options.path, job) else {
        return Err(no_endpoint(job).into());
    };
    // Cannot fail: the input was parsed from JSON.
    let body = serde_json::to_vec(&job.input).unwrap_or_default();
    let posted = server
        .client
        .post(url, request::headers(job), body, options.timeout());
    let response = posted.await.map_err(failure)?;
    match meaning(response.status(), response.header(NEEDS_RETRY)) {
        Meaning::Result => result(server, job.hint.as_ref(), response, on_event).await,
        Meaning::JobError => {
            server.observe(&response, None);
            let status = response.status();
            let body = response.beginning(MAX_ERROR_BYTES).await;
            Err(job_error(status, &body).into())
        }
        Meaning::Retry => {
            server.observe(&response, None);
            let status = response.status();
            let body = response.beginning(MAX_ERROR_BYTES).await;
            let body = String::from_utf8_lossy(&body);
            let details = shortened(body.trim().to_owned(), MAX_LOGGED_BYTES);
            let message = format!("the model server responded {status}");
            Err(Fault::new(FaultKind::Server, message)
                .because(details)
                .into())
        }
    }
}

/// Reads a result. The hints in its headers count once it is complete.
async fn result(
    server: &Server,
    hint: Option<&Hint>,
    mut response: Response,
    on_event: &mut dyn FnMut(Value),
) -> Result<Produced, Failure> {
    server.observe(&response, hint);
    match content(response.header("content-type")) {
        Content::Json => of_json(&response.body(MAX_RESULT_BYTES).await.map_err(failure)?),
        Content::Events => of_value(last_event(&mut response, on_event).await?),
        Content::File(content_type) => {
            let bytes = response.body(MAX_RESULT_BYTES).await.map_err(failure)?;
            Ok(output::of_file(&content_type, bytes))
        }
        Content::Other(content_type) => {
            let message = format!(
                "the model server's result is {content_type}: JSON, events or a picture expected"
            );
            Err(server_error(message).into())
        }
    }
}

/// Reads a stream of events and returns the last one.
async fn last_event(
    response: &mut Response,
    on_event: &mut dyn FnMut(Value),
) -> Result<Value, Failure> {
    let mut events = Events::new(MAX_RESULT_BYTES);
    let mut last: Option<Value> = None;
    let too_large = |_| {
        failure(Error::TooLarge {
            limit_bytes: MAX_RESULT_BYTES,
        })
    };
    while let Some(piece) = response.piece().await.map_err(failure)? {
        for event in events.push(piece.as_ref()).map_err(too_large)? {
            if let Some(before) = last.replace(event) {
                on_event(before);
            }
        }
    }
    if let Some(event) = events.end()
        && let Some(before) = last.replace(event)
    {
        on_event(before);
    }
    let none = || server_error("the model server's stream ended without an event");
    last.ok_or_else(|| none().into())
}

fn of_json(body: &[u8]) -> Result<Produced, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return of_value(Value::Null);
    }
    let value = serde_json::from_slice(body);
    of_value(value.map_err(|error| {
        server_error(format!(
            "the model server's result is not valid JSON: {error}"
        ))
    })?)
}

fn of_value(value: Value) -> Result<Produced, Failure> {
    output::of_json(value).map_err(|pointer| {
        server_error(format!(
            "the model server's result has a damaged data: URI at {pointer}"
        ))
        .into()
    })
}

/// Maps a failed exchange: a result that is too large would be so again, everything else is the
/// server's fault.
fn failure(error: Error) -> Failure {
    let message = match &error {
        Error::TooLarge { limit_bytes } => {
            let limit = limit_bytes >> 20;
            let message = format!("the model server's result exceeds {limit} MiB");
            return server_error(message).into();
        }
        Error::Unreachable(_) => "the model server cannot be reached",
        Error::Broken(_) => "the model server broke the connection",
        Error::Timeout(_) => "the model server did not respond in time",
    };
    Fault::new(FaultKind::Server, message).because(error).into()
}

fn no_endpoint(job: &JobSpec) -> JobError {
    JobError {
        status: 404,
        error_type: "not_found".to_owned(),
        message: format!("the app has no endpoint '{}'", job.path),
        detail: Vec::new(),
    }
}
