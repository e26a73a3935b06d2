//! fal's queue protocol: submit, status, result, cancel.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::By;
use super::extract::{AppPath, JobPath, Query};
use super::job_result::{result_response, with_job_headers};
use super::job_stream::{self, JobStream, JobUpdate};
use super::openapi::{Finding, Listing, Outcome, QUEUE, Submitting};
use super::owned_job::OwnedJob;
use super::status_body::{StatusView, status_view, waiting};
use super::submission::{INPUT, SubPath, SubmitHeaders, SubmitQuery, SubmitRequest};
use super::{Api, ApiError, sse};
use crate::finalizer::Cancelled;

/// Query parameters; the last duplicate counts.
type Flags = HashMap<String, String>;

/// Options of a status.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `wants_log` reads")]
struct StatusFlags {
    /// `1` or `true`: include the job's log. Anything else: without.
    #[param(example = "1")]
    logs: Option<String>,
}

/// Result of a cancellation.
#[derive(Serialize, ToSchema)]
#[schema(as = Cancellation)]
struct CancelView {
    status: Cancellation,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = CancellationStatus)]
enum Cancellation {
    /// The job is cancelled, or will be once its runner receives the request.
    #[serde(rename = "CANCELLATION_REQUESTED")]
    Requested,
    /// The job has ended already.
    AlreadyCompleted,
    /// The job does not exist in this app.
    NotFound,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(submit))
        .routes(routes!(submit_to_path))
        .routes(routes!(result))
        .routes(routes!(response))
        .routes(routes!(poll))
        .routes(routes!(follow))
        .routes(routes!(cancel))
}

/// Submits a job. Once this responds, the job is accepted and will run.
#[utoipa::path(
    post,
    path = "/{owner}/{app}",
    tag = QUEUE,
    params(AppPath, SubmitHeaders, SubmitQuery),
    request_body(content = Option<Value>, content_type = "application/json", description = INPUT),
    responses((status = 200, description = "The job is queued", body = StatusView), Submitting)
)]
async fn submit(
    State(api): State<Api>,
    By(caller): By,
    SubmitRequest(submission): SubmitRequest,
) -> Result<Response, ApiError> {
    let accepted = api.submitter.submit(&caller, submission).await?;
    let job = accepted.job;
    let answer = waiting(&api, job.submitted_to(), job.id, accepted.queue_position);
    let response = Json(answer).into_response();
    Ok(with_job_headers(response, job.id, None))
}

/// Submits a job to an endpoint of the app.
#[utoipa::path(
    post,
    path = "/{owner}/{app}/{*path}",
    tag = QUEUE,
    params(AppPath, SubPath, SubmitHeaders, SubmitQuery),
    request_body(content = Option<Value>, content_type = "application/json", description = INPUT),
    responses((status = 200, description = "The job is queued", body = StatusView), Submitting)
)]
async fn submit_to_path(
    state: State<Api>,
    by: By,
    submission: SubmitRequest,
) -> Result<Response, ApiError> {
    submit(state, by, submission).await
}

/// Returns the status of a job.
#[utoipa::path(
    get,
    path = "/{owner}/{app}/requests/{id}/status",
    operation_id = "status",
    tag = QUEUE,
    params(JobPath, StatusFlags),
    responses(
        (status = 200, description = "The job has ended", body = StatusView),
        (status = 202, description = "The job is queued or runs", body = StatusView),
        Finding,
    )
)]
async fn poll(
    State(api): State<Api>,
    OwnedJob(job): OwnedJob,
    Query(flags): Query<Flags>,
) -> Result<Response, ApiError> {
    let (status, record) = job_stream::now(&api, job, wants_log(&flags)).await?;
    let id = record.spec.id;
    let has_ended = status.state.is_terminal();
    let named = (record.spec.submitted_to(), id);
    let end = has_ended.then_some(&record);
    let answer = status_view(&api, named, &status, end, wants_log(&flags));
    let code = match has_ended {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let response = (code, Json(answer)).into_response();
    Ok(with_job_headers(response, id, Some(&record)))
}

/// Streams the status of a job at each change until its end: each event's data is a status with the
/// new log lines.
#[utoipa::path(
    get,
    path = "/{owner}/{app}/requests/{id}/status/stream",
    tag = QUEUE,
    params(JobPath, StatusFlags),
    responses((status = 200, description = "Events", content(("text/event-stream"))), Finding)
)]
async fn follow(
    State(api): State<Api>,
    OwnedJob(job): OwnedJob,
    Query(flags): Query<Flags>,
) -> Result<Response, ApiError> {
    let permit = api.streams.permit()?;
    let job = job.record.spec;
    let (id, with_log) = (job.id, wants_log(&flags));
    let following = JobStream::new(api, job, with_log);
    let answers = stream::unfold(Some(following), move |following| async move {
        let mut following: JobStream = following?;
        let JobUpdate { status, end, .. } = following.next().await?;
        let (api, job) = following.subject();
        let named = (job.submitted_to(), job.id);
        let answer = status_view(api, named, &status, end.as_ref(), with_log);
        Some((answer, end.is_none().then_some(following)))
    });
    Ok(with_job_headers(sse::events(answers, permit), id, None))
}

/// Returns the bare output of a job.
#[utoipa::path(
    get,
    path = "/{owner}/{app}/requests/{id}",
    tag = QUEUE,
    params(JobPath),
    responses((status = 200, description = "The app's output", body = Value), Outcome)
)]
async fn result(State(api): State<Api>, OwnedJob(job): OwnedJob) -> Result<Response, ApiError> {
    Ok(result_response(
        job_stream::with_output(&api, job).await?,
        &api.signed_urls,
    ))
}

/// Returns the output of a job, under the `response_url` of newer clients.
#[utoipa::path(
    get,
    path = "/{owner}/{app}/requests/{id}/response",
    tag = QUEUE,
    params(JobPath),
    responses((status = 200, description = "The app's output", body = Value), Outcome)
)]
async fn response(state: State<Api>, found: OwnedJob) -> Result<Response, ApiError> {
    result(state, found).await
}

/// Cancels a job. Idempotent.
#[utoipa::path(
    put,
    path = "/{owner}/{app}/requests/{id}/cancel",
    tag = QUEUE,
    params(JobPath),
    responses(
        (status = 202, description = "The job is cancelled, or will be once its runner receives the request", body = CancelView),
        (status = 400, description = "The job has ended already", body = CancelView),
        (status = 404, description = "The job does not exist", body = CancelView),
        Listing,
    )
)]
async fn cancel(
    State(api): State<Api>,
    found: Result<OwnedJob, ApiError>,
) -> Result<Response, ApiError> {
    // fal's clients read the bodies of these three responses.
    let answer = |code, status| (code, Json(CancelView { status })).into_response();
    let missing = || answer(StatusCode::NOT_FOUND, Cancellation::NotFound);
    let record = match found {
        Ok(OwnedJob(job)) => job.record,
        Err(error) if error.is_not_found() => return Ok(missing()),
        Err(error) => return Err(error),
    };
    let response = match api.finalizer.cancel(&record.spec).await? {
        Cancelled::Yes => answer(StatusCode::ACCEPTED, Cancellation::Requested),
        Cancelled::Ended(_) => answer(StatusCode::BAD_REQUEST, Cancellation::AlreadyCompleted),
        Cancelled::Missing => missing(),
    };
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

/// fal's clients send `true`, `false`, `1` or `0`.
fn wants_log(flags: &Flags) -> bool {
    matches!(flags.get("logs").map(String::as_str), Some("1" | "true"))
}
