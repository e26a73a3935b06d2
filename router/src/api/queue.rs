//! fal's queue protocol: submit, status, result.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use warmq_common::artifacts::with_public_urls;
use warmq_common::ids::JobId;
use warmq_common::job::{JobError, JobRecord};
use warmq_common::state::JobState;

use super::{Api, ApiError};
use crate::submit::Submission;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(submit))
        .route("/{owner}/{app}/{*path}", post(submit_to_path))
        .route("/{owner}/{app}/requests/{id}", get(result))
        .route("/{owner}/{app}/requests/{id}/response", get(result))
        .route("/{owner}/{app}/requests/{id}/status", get(status))
}

async fn submit(
    State(api): State<Api>,
    Path((owner, app)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    accept(
        &api,
        format!("{owner}/{app}"),
        String::new(),
        &headers,
        body,
    )
    .await
}

async fn submit_to_path(
    State(api): State<Api>,
    Path((owner, app, path)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    accept(&api, format!("{owner}/{app}"), path, &headers, body).await
}

async fn accept(
    api: &Api,
    app: String,
    path: String,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(api.max_body_bytes),
        _ => ApiError::bad_request(rejection.body_text()),
    })?;
    let submission = Submission {
        app,
        path,
        body: body.to_vec(),
        hint: header(headers, "runner-hint")?,
        priority: header(headers, "queue-priority")?,
        max_warm_wait: header(headers, "max-warm-wait")?,
        no_retry: header(headers, "no-retry")?,
        ..Submission::default()
    };
    let accepted = api.submitter.submit(submission).await?;
    let mut answer = status_body(api, &accepted.job.app.to_string(), accepted.job.id);
    answer["status"] = "IN_QUEUE".into();
    answer["queue_position"] = accepted.queue_position.into();
    Ok(with_job_headers(
        Json(answer).into_response(),
        accepted.job.id,
        None,
    ))
}

async fn status(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&api, &owner, &app, &id).await?;
    let mut answer = status_body(&api, &format!("{owner}/{app}"), record.spec.id);
    let status = match record.state {
        JobState::Queued | JobState::Dispatched => {
            let position = api
                .store
                .queue_position(&record.spec.app, record.spec.id)
                .await?;
            answer["queue_position"] = position.unwrap_or(0).into();
            "IN_QUEUE"
        }
        JobState::Running => "IN_PROGRESS",
        _ => "COMPLETED",
    };
    answer["status"] = status.into();
    if let Some(error) = failure(&record) {
        answer["error"] = error.message.into();
        answer["error_type"] = error.error_type.into();
    }
    if let Some(timings) = &record.timings {
        answer["metrics"]["inference_time"] = (timings.run_ms as f64 / 1000.0).into();
    }
    let code = match record.state.is_terminal() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let response = (code, Json(answer)).into_response();
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

async fn result(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let mut record = find(&api, &owner, &app, &id).await?;
    let response = if let Some(error) = failure(&record) {
        ApiError::from(error).into_response()
    } else if record.state == JobState::Succeeded {
        let mut output = record.output.take().unwrap_or_default();
        with_public_urls(&mut output, &api.public_url);
        Json(output).into_response()
    } else {
        ApiError::bad_request("Request is still in progress").into_response()
    };
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

/// The job, if it is one of this app.
async fn find(api: &Api, owner: &str, app: &str, id: &str) -> Result<JobRecord, ApiError> {
    let Ok(job) = id.parse::<JobId>() else {
        return Err(ApiError::no_such_job(id));
    };
    match api.store.job(job).await? {
        Some(record) if record.spec.app.as_str() == format!("{owner}/{app}") => Ok(record),
        _ => Err(ApiError::no_such_job(id)),
    }
}

/// What every answer about a job says. No query in these URLs: the clients append their own.
fn status_body(api: &Api, app: &str, id: JobId) -> Value {
    let url = format!("{}/queue/{app}/requests/{id}", api.public_url);
    json!({
        "request_id": id,
        "response_url": url,
        "status_url": format!("{url}/status"),
        "cancel_url": format!("{url}/cancel"),
        "logs": null,
        "metrics": {},
    })
}

/// Why a job that ended gives no output.
fn failure(record: &JobRecord) -> Option<JobError> {
    let ended = |status, error_type: &str, message: &str| JobError {
        status,
        error_type: error_type.to_owned(),
        message: message.to_owned(),
        detail: Vec::new(),
    };
    match record.state {
        JobState::Failed => Some(record.error.clone().unwrap_or_else(|| {
            JobError::internal("internal_error", "the job failed without a reason")
        })),
        JobState::Cancelled => Some(ended(499, "client_cancelled", "the job was cancelled")),
        JobState::Expired => {
            let message = "the job did not start before its deadline";
            Some(ended(504, "request_timeout", message))
        }
        _ => None,
    }
}

fn with_job_headers(mut response: Response, id: JobId, record: Option<&JobRecord>) -> Response {
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
        }
        if let Some(timings) = &record.timings {
            insert("x-warmq-warm", if timings.warm { "1" } else { "0" });
        }
    }
    response
}

/// A header under fal's name (`X-Fal-…`) or ours (`X-…`), as UTF-8.
fn header(headers: &HeaderMap, name: &str) -> Result<Option<String>, ApiError> {
    let found = [format!("x-fal-{name}"), format!("x-{name}")]
        .into_iter()
        .find_map(|name| Some((headers.get(&name)?, name)));
    let Some((value, name)) = found else {
        return Ok(None);
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(ApiError::bad_request(format!("header {name} is not UTF-8"))),
    }
}
