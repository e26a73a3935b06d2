//! fal's queue protocol: submit, status, result, cancel.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures::stream;
use serde_json::json;
use warmq_common::ids::{AppId, JobId};
use warmq_common::job::JobRecord;
use warmq_common::store::Glance;

use super::following::{Following, News};
use super::outcome::{outcome, with_job_headers};
use super::status::{status, waiting};
use super::submission::Asked;
use super::{Api, ApiError, sse};
use crate::ending::Cancelled;

/// What stands behind the `?`; the last one counts.
type Flags = HashMap<String, String>;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(submit))
        .route("/{owner}/{app}/{*path}", post(submit))
        .route("/{owner}/{app}/requests/{id}", get(result))
        .route("/{owner}/{app}/requests/{id}/response", get(result))
        .route("/{owner}/{app}/requests/{id}/status", get(poll))
        .route("/{owner}/{app}/requests/{id}/status/stream", get(follow))
        .route("/{owner}/{app}/requests/{id}/cancel", put(cancel))
}

async fn submit(State(api): State<Api>, Asked(submission): Asked) -> Result<Response, ApiError> {
    let accepted = api.submitter.submit(submission).await?;
    let job = accepted.job;
    let answer = waiting(&api, job.submitted_to(), job.id, accepted.queue_position);
    let response = Json(answer).into_response();
    Ok(with_job_headers(response, job.id, None))
}

async fn poll(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
    Query(flags): Query<Flags>,
) -> Result<Response, ApiError> {
    let record = find(&api, &owner, &app, &id).await?;
    let (app, id) = (&record.spec.app, record.spec.id);
    let with_log = wants_log(&flags);
    let glance = Glance {
        state: record.state,
        progress: record.progress.clone(),
        queue_position: match record.state.is_terminal() {
            true => None,
            false => api.store.queue_position(app, id).await?,
        },
        log: match with_log {
            true => api.store.log(app, id).await?,
            false => Vec::new(),
        },
    };
    let named = (record.spec.submitted_to(), id);
    let answer = status(&api, named, &glance, Some(&record), with_log);
    let code = match record.state.is_terminal() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let response = (code, Json(answer)).into_response();
    Ok(with_job_headers(response, id, Some(&record)))
}

/// The status whenever it changes, until the job has ended; of the log, what is new each time.
async fn follow(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
    Query(flags): Query<Flags>,
) -> Result<Response, ApiError> {
    let job = find(&api, &owner, &app, &id).await?.spec;
    let (id, with_log) = (job.id, wants_log(&flags));
    let following = Following::new(api, job, with_log);
    let answers = stream::unfold(Some(following), move |following| async move {
        let mut following: Following = following?;
        let News { glance, end } = following.next().await?;
        let (api, job) = following.subject();
        let named = (job.submitted_to(), job.id);
        let answer = status(api, named, &glance, end.as_ref(), with_log);
        Some((answer, end.is_none().then_some(following)))
    });
    Ok(with_job_headers(sse::events(answers), id, None))
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

/// The job, if it is one of this app, or was submitted to this route.
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
    let name = format!("{owner}/{app}");
    Ok(record.filter(|JobRecord { spec, .. }| {
        [&spec.app, spec.submitted_to()]
            .map(AppId::as_str)
            .contains(&name.as_str())
    }))
}

/// fal's clients say `true`, `false`, `1` or `0`.
fn wants_log(flags: &Flags) -> bool {
    matches!(flags.get("logs").map(String::as_str), Some("1" | "true"))
}
