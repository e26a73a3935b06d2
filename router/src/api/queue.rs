//! fal's queue protocol: submit, status, result, cancel.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use warmq_common::artifacts::with_public_urls;
use warmq_common::ids::JobId;
use warmq_common::job::JobRecord;
use warmq_common::state::JobState;

use super::{Api, ApiError};
use crate::ending::Cancelled;
use crate::submit::Submission;

/// What stands behind the `?`; the last one counts.
type Flags = HashMap<String, String>;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(submit))
        .route("/{owner}/{app}/{*path}", post(submit_to_path))
        .route("/{owner}/{app}/requests/{id}", get(result))
        .route("/{owner}/{app}/requests/{id}/response", get(result))
        .route("/{owner}/{app}/requests/{id}/status", get(status))
        .route("/{owner}/{app}/requests/{id}/cancel", put(cancel))
}

async fn submit(
    State(api): State<Api>,
    Path((owner, app)): Path<(String, String)>,
    Query(query): Query<Flags>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    accept(
        &api,
        format!("{owner}/{app}"),
        String::new(),
        query,
        &headers,
        body,
    )
    .await
}

async fn submit_to_path(
    State(api): State<Api>,
    Path((owner, app, path)): Path<(String, String, String)>,
    Query(query): Query<Flags>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    accept(&api, format!("{owner}/{app}"), path, query, &headers, body).await
}

async fn accept(
    api: &Api,
    app: String,
    path: String,
    mut query: Flags,
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
        start_timeout: header(headers, "request-timeout")?,
        idempotency_key: text_of(headers, "idempotency-key")?,
        store_io: header(headers, "store-io")?,
        max_queue_length: query.remove("fal_max_queue_length"),
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
    if let Some(error) = record.failure() {
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
    let mut response = if let Some(error) = record.failure() {
        ApiError::from(error).into_response()
    } else if record.state == JobState::Succeeded {
        let mut output = record.output.take().unwrap_or_default();
        with_public_urls(&mut output, &api.public_url);
        Json(output).into_response()
    } else {
        ApiError::bad_request("Request is still in progress").into_response()
    };
    if record.state == JobState::Expired {
        // The deadline was the submitter's own; fal's clients do not try again then.
        let user = HeaderValue::from_static("user");
        (response.headers_mut()).insert("x-fal-request-timeout-type", user);
    }
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

/// fal's three answers, whose bodies its clients read. A cancelled job can be cancelled again.
async fn cancel(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let answer = |code, status: &str| (code, Json(json!({"status": status}))).into_response();
    let Some(record) = lookup(&api, &owner, &app, &id).await? else {
        return Ok(answer(StatusCode::NOT_FOUND, "NOT_FOUND"));
    };
    let response = match api.endings.cancel(&record.spec).await? {
        Cancelled::Yes => answer(StatusCode::ACCEPTED, "CANCELLATION_REQUESTED"),
        Cancelled::Ended(_) => answer(StatusCode::BAD_REQUEST, "ALREADY_COMPLETED"),
        Cancelled::Missing => answer(StatusCode::NOT_FOUND, "NOT_FOUND"),
    };
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

/// The job, if it is one of this app.
async fn find(api: &Api, owner: &str, app: &str, id: &str) -> Result<JobRecord, ApiError> {
    let found = lookup(api, owner, app, id).await?;
    found.ok_or_else(|| ApiError::no_such_job(id))
}

/// As [`find`]; `None` if there is no such job.
async fn lookup(
    api: &Api,
    owner: &str,
    app: &str,
    id: &str,
) -> Result<Option<JobRecord>, ApiError> {
    let Ok(job) = id.parse::<JobId>() else {
        return Ok(None);
    };
    let record = api.store.job(job).await?;
    Ok(record.filter(|record| record.spec.app.as_str() == format!("{owner}/{app}")))
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
