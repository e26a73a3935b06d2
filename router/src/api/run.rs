//! `/run`: submits a job and waits for its result, with or without progress. The job ends with the
//! request.

use axum::extract::State;
use axum::response::Response;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::http::StatusName;
use warmq_types::ids::JobId;
use warmq_types::job::{JobRecord, JobSpec};

use super::auth::By;
use super::extract::AppPath;
use super::job_result::{output, result_response, with_job_headers};
use super::job_stream::{JobStream, JobUpdate, until_ended};
use super::openapi::{RUN, Running, Submitting};
use super::submission::{INPUT, SubPath, SubmitHeaders, SubmitQuery, SubmitRequest};
use super::{Api, ApiError, sse};
use crate::access::Caller;
use crate::submit::Submission;

/// Buffered events; a slower reader delays further ones.
const UPDATE_BUFFER: usize = 16;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(run))
        .routes(routes!(run_with_events))
        .routes(routes!(run_path))
}

/// Submits a job and waits for its result. It is cancelled if its client disconnects, unless it has
/// an idempotency key.
#[utoipa::path(
    post,
    path = "/{owner}/{app}",
    tag = RUN,
    params(AppPath, SubmitHeaders, SubmitQuery),
    request_body(content = Option<Value>, content_type = "application/json", description = INPUT),
    responses((status = 200, description = "The app's output", body = Value), Running)
)]
async fn run(
    State(api): State<Api>,
    By(caller): By,
    SubmitRequest(submission): SubmitRequest,
) -> Result<Response, ApiError> {
    answer_with_result(api, caller, submission).await
}

/// Submits a job and streams its progress as events; the last one is the app's output, or an error
/// with its `status`.
#[utoipa::path(
    post,
    path = "/{owner}/{app}/stream",
    tag = RUN,
    params(AppPath, SubmitHeaders, SubmitQuery),
    request_body(content = Option<Value>, content_type = "application/json", description = INPUT),
    responses((status = 200, description = "Events", content(("text/event-stream"))), Submitting)
)]
async fn run_with_events(
    State(api): State<Api>,
    By(caller): By,
    SubmitRequest(submission): SubmitRequest,
) -> Result<Response, ApiError> {
    answer_with_events(api, caller, submission).await
}

/// Submits a job to an endpoint of the app's own and waits for its result; with events, if
/// `/stream` ends the path.
#[utoipa::path(
    post,
    path = "/{owner}/{app}/{*path}",
    tag = RUN,
    params(AppPath, SubPath, SubmitHeaders, SubmitQuery),
    request_body(content = Option<Value>, content_type = "application/json", description = INPUT),
    responses(
        (status = 200, description = "The app's output, or events", content(
            (Value = "application/json"),
            ("text/event-stream"),
        )),
        Running,
    )
)]
async fn run_path(
    State(api): State<Api>,
    By(caller): By,
    SubmitRequest(submission): SubmitRequest,
) -> Result<Response, ApiError> {
    match submission.path.strip_suffix("/stream").map(str::to_owned) {
        Some(path) => answer_with_events(api, caller, Submission { path, ..submission }).await,
        None => answer_with_result(api, caller, submission).await,
    }
}

async fn answer_with_result(
    api: Api,
    caller: Caller,
    submission: Submission,
) -> Result<Response, ApiError> {
    let signed_urls = api.signed_urls.clone();
    let record = ended(api, caller, submission).await?;
    Ok(result_response(record, &signed_urls))
}

/// Submits a job and returns its record once it has ended. It is cancelled if its client
/// disconnects, unless it has an idempotency key.
///
/// # Errors
/// The submission is refused, or the record no longer exists.
pub(super) async fn ended(
    api: Api,
    caller: Caller,
    submission: Submission,
) -> Result<JobRecord, ApiError> {
    let (mut sender, receiver) = oneshot::channel();
    // A task of its own: this function is dropped when the client disconnects.
    tokio::spawn(async move {
        let record = submit_and_wait(&api, &caller, submission, sender.closed()).await;
        // The client may have disconnected.
        let _ = sender.send(record);
    });
    receiver.await.map_err(|_| wait_failed())?
}

/// Returns the job's record once it has ended; cancels the job when the client is `gone`.
async fn submit_and_wait(
    api: &Api,
    caller: &Caller,
    submission: Submission,
    gone: impl Future<Output = ()>,
) -> Result<JobRecord, ApiError> {
    let may_return = submission.idempotency_key.is_some();
    let job = api.submitter.submit(caller, submission).await?.job;
    tokio::select! {
        biased;
        record = until_ended(api, &job) => return record,
        () = gone => {}
    }
    if !may_return {
        abandon(api, &job).await;
    }
    Err(ApiError::client_disconnected())
}

/// Responds with the status of the acceptance, then with events.
async fn answer_with_events(
    api: Api,
    caller: Caller,
    submission: Submission,
) -> Result<Response, ApiError> {
    let permit = api.streams.permit()?;
    let (accept, accepted) = oneshot::channel();
    let (sender, receiver) = mpsc::channel(UPDATE_BUFFER);
    tokio::spawn(submit_and_stream(api, caller, submission, accept, sender));
    let job = accepted.await.map_err(|_| wait_failed())??;
    let events = stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    });
    Ok(with_job_headers(sse::events(events, permit), job, None))
}

/// Sends the progress and at last the output; cancels the job if the client disconnects.
async fn submit_and_stream(
    api: Api,
    caller: Caller,
    submission: Submission,
    accept: oneshot::Sender<Result<JobId, ApiError>>,
    updates: mpsc::Sender<Value>,
) {
    let may_return = submission.idempotency_key.is_some();
    let job = match api.submitter.submit(&caller, submission).await {
        Ok(accepted) => accepted.job,
        Err(error) => {
            let _ = accept.send(Err(error.into()));
            return;
        }
    };
    let _ = accept.send(Ok(job.id));
    let streamed = async {
        let mut following = JobStream::new(api.clone(), job.clone(), false).with_events();
        while let Some(mut update) = following.next().await {
            let is_last = update.end.is_some();
            let events = std::mem::take(&mut update.events);
            // The app's own events take the place of a status.
            let status = (events.is_empty() || is_last).then(|| event(&api, update));
            for event in events.into_iter().chain(status) {
                // A closed channel is handled below.
                let _ = updates.send(event).await;
            }
            if is_last {
                break;
            }
        }
    };
    tokio::select! {
        () = streamed => {}
        () = updates.closed() => if !may_return {
            abandon(&api, &job).await;
        }
    }
}

/// Returns an event of the stream: the job's status, at the end its output or error.
fn event(api: &Api, JobUpdate { status, end, .. }: JobUpdate) -> Value {
    match end.map(|mut record| output(&mut record, &api.signed_urls)) {
        Some(Ok(output)) => output,
        Some(Err(error)) => {
            let mut body = error.body();
            body["error"] = error.message.into();
            body["error_type"] = error.error_type.into();
            body["status"] = error.status.into();
            body
        }
        None => json!({
            "status": StatusName::from(status.state),
            "queue_position": status.queue_position,
            "progress": status.progress,
            "steps": status.steps,
        }),
    }
}

/// Cancels a job whose only reader disconnected. (With an idempotency key, its submitter may
/// return.)
async fn abandon(api: &Api, job: &JobSpec) {
    tracing::info!(job.id = %job.id, "cancelling the job of a disconnected client");
    if let Err(error) = api.finalizer.cancel(job).await {
        tracing::warn!(job.id = %job.id, %error, "an abandoned job may run to its end");
    }
}

fn wait_failed() -> ApiError {
    ApiError::internal("the wait for the job failed")
}
