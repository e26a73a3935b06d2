//! `/run`: submit and wait, for the result alone or with each progress before it. The job is the request's: it ends with it.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use warmq_common::ids::JobId;
use warmq_common::job::{JobRecord, JobSpec};

use super::following::{Following, News, until_ended};
use super::outcome::{outcome, output, with_job_headers};
use super::status::word;
use super::submission::Asked;
use super::{Api, ApiError, sse};
use crate::submit::Submission;

/// Events that a slow reader may be behind; then it is waited for.
const BACKLOG: usize = 16;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(run))
        .route("/{owner}/{app}/{*path}", post(run))
}

async fn run(State(api): State<Api>, Asked(submission): Asked) -> Result<Response, ApiError> {
    match path_to_stream(&submission.path).map(str::to_owned) {
        Some(path) => answer_with_events(api, Submission { path, ..submission }).await,
        None => answer_with_result(api, submission).await,
    }
}

/// The app's own path, if events are wanted: `stream` ends the path then.
fn path_to_stream(path: &str) -> Option<&str> {
    match path {
        "stream" => Some(""),
        path => path.strip_suffix("/stream"),
    }
}

async fn answer_with_result(api: Api, submission: Submission) -> Result<Response, ApiError> {
    let (mut tell, told) = oneshot::channel();
    let links = api.links.clone();
    // A task of its own: this function is dropped when the client goes away.
    tokio::spawn(async move {
        let record = submit_and_wait(&api, submission, tell.closed()).await;
        // Nobody may be left to hear it.
        let _ = tell.send(record);
    });
    match told.await {
        Ok(record) => Ok(outcome(record?, &links)),
        Err(_) => Err(broke_off()),
    }
}

/// The job's record once it has ended; the job is cancelled when the client is `gone`.
async fn submit_and_wait(
    api: &Api,
    submission: Submission,
    gone: impl Future<Output = ()>,
) -> Result<JobRecord, ApiError> {
    let may_come_again = submission.idempotency_key.is_some();
    let job = api.submitter.submit(submission).await?.job;
    tokio::select! {
        biased;
        record = until_ended(api, &job) => return record,
        () = gone => {}
    }
    if !may_come_again {
        abandon(api, &job).await;
    }
    Err(ApiError::client_disconnected())
}

/// Says whether the job was accepted as the answer's status, and the rest in events.
async fn answer_with_events(api: Api, submission: Submission) -> Result<Response, ApiError> {
    let (accept, accepted) = oneshot::channel();
    let (tell, told) = mpsc::channel(BACKLOG);
    tokio::spawn(submit_and_tell(api, submission, accept, tell));
    let job = accepted.await.map_err(|_| broke_off())??;
    let events = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
    Ok(with_job_headers(sse::events(events), job, None))
}

/// Tells each progress and at last the output; the job is cancelled when nobody listens any more.
async fn submit_and_tell(
    api: Api,
    submission: Submission,
    accept: oneshot::Sender<Result<JobId, ApiError>>,
    tell: mpsc::Sender<Value>,
) {
    let may_come_again = submission.idempotency_key.is_some();
    let job = match api.submitter.submit(submission).await {
        Ok(accepted) => accepted.job,
        Err(error) => {
            let _ = accept.send(Err(error.into()));
            return;
        }
    };
    let _ = accept.send(Ok(job.id));
    let told = async {
        let mut following = Following::new(api.clone(), job.clone(), false);
        while let Some(news) = following.next().await {
            let is_last = news.end.is_some();
            // An error is seen below.
            let _ = tell.send(event(&api, news)).await;
            if is_last {
                break;
            }
        }
    };
    tokio::select! {
        () = told => {}
        () = tell.closed() => if !may_come_again {
            abandon(&api, &job).await;
        }
    }
}

/// An event of the stream: where the job stands, and at the end the output itself, or its error.
fn event(api: &Api, News { glance, end }: News) -> Value {
    match end.map(|mut record| output(&mut record, &api.links)) {
        Some(Ok(output)) => output,
        Some(Err(error)) => {
            let mut body = error.body();
            body["error"] = error.message.into();
            body["error_type"] = error.error_type.into();
            body["status"] = error.status.into();
            body
        }
        None => json!({
            "status": word(glance.state),
            "queue_position": glance.queue_position,
            "progress": glance.progress,
        }),
    }
}

/// Cancels a job whose only reader went away. One with an idempotency key is left alone: its submitter may ask for it again,
/// and perhaps has done so already.
async fn abandon(api: &Api, job: &JobSpec) {
    tracing::info!(job.id = %job.id, "a client went away; its job is cancelled");
    if let Err(error) = api.endings.cancel(job).await {
        tracing::warn!(job.id = %job.id, %error, "an abandoned job may run to its end");
    }
}

fn broke_off() -> ApiError {
    ApiError::internal("the wait for the job broke off")
}
