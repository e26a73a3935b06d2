//! fal's queue protocol: submit, status, result, cancel.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use warmq_common::ids::JobId;
use warmq_common::job::JobRecord;
use warmq_common::state::JobState;

use super::outcome::{outcome, with_job_headers};
use super::submission::Asked;
use super::{Api, ApiError};
use crate::ending::Cancelled;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(submit))
        .route("/{owner}/{app}/{*path}", post(submit))
        .route("/{owner}/{app}/requests/{id}", get(result))
        .route("/{owner}/{app}/requests/{id}/response", get(result))
        .route("/{owner}/{app}/requests/{id}/status", get(status))
        .route("/{owner}/{app}/requests/{id}/cancel", put(cancel))
}

async fn submit(
    State(api): State<Api>,
    Asked(submission): Asked,
) -> Result<Response, ApiError> {
    let accepted = api.submitter.submit(submission).await?;
    let mut answer = status_body(&api, &accepted.job.app.to_string(), accepted.job.id);
    answer["status"] = "IN_QUEUE".into();
    answer["queue_position"] = accepted.queue_position.into();
    let response = Json(answer).into_response();
    Ok(with_job_headers(response, accepted.job.id, None))
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
    let record = find(&api, &owner, &app, &id).await?;
    Ok(outcome(record, &api.public_url))
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
