//! `/run`: submit and wait. The job is the request's: it ends with it.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use tokio::sync::oneshot;
use warmq_common::job::{JobRecord, JobSpec};

use super::outcome::outcome;
use super::submission::Asked;
use super::waiting::until_ended;
use super::{Api, ApiError};
use crate::submit::Submission;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/{owner}/{app}", post(run))
        .route("/{owner}/{app}/{*path}", post(run))
}

async fn run(
    State(api): State<Api>,
    Asked(submission): Asked,
) -> Result<Response, ApiError> {
    let (tell, told) = oneshot::channel();
    let public_url = api.public_url.clone();
    // A task of its own: this function is dropped when the client goes away.
    tokio::spawn(async move {
        let mut tell = tell;
        let result = submit_and_wait(&api, submission, tell.closed()).await;
        // Nobody is left to hear it.
        let _ = tell.send(result);
    });
    match told.await {
        Ok(record) => Ok(outcome(record?, &public_url)),
        Err(_) => Err(ApiError::internal("the wait for the job broke off")),
    }
}

/// The job's record once it has ended; it is cancelled when the client is `gone`.
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

/// Cancels a job whose only reader went away. A job with an idempotency key is left alone: its submitter may ask for it again,
/// and perhaps has done so already.
pub(super) async fn abandon(api: &Api, job: &JobSpec) {
    tracing::info!(job.id = %job.id, "a client went away; its job is cancelled");
    if let Err(error) = api.endings.cancel(job).await {
        tracing::warn!(job.id = %job.id, %error, "an abandoned job may run to its end");
    }
}
