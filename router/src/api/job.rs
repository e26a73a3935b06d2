//! `/v1/jobs/{id}`: the record of a job with its routing decision, and cancellation.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_objects::InputError;
use warmq_store::JobHead;
use warmq_types::http::Job;
use warmq_types::job::JobSpec;

use super::job_stream;
use super::openapi::{Finding, OPERATE};
use super::owned_job::OwnedJob;
use super::{Api, ApiError};
use crate::files::lifetime::expires_s;
use crate::files::references;
use crate::finalizer::Cancelled;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show, cancel))
}

/// Returns a job's record, with the routing decision.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    operation_id = "job",
    tag = OPERATE,
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job), Finding)
)]
async fn show(State(api): State<Api>, OwnedJob(job): OwnedJob) -> Result<Json<Job>, ApiError> {
    view(&api, job).await
}

/// Cancels a job. Idempotent; a job that ended otherwise is 400.
#[utoipa::path(
    delete,
    path = "/jobs/{id}",
    operation_id = "cancel_job",
    tag = OPERATE,
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job, cancelled", body = Job), Finding)
)]
async fn cancel(State(api): State<Api>, OwnedJob(job): OwnedJob) -> Result<Json<Job>, ApiError> {
    let spec = &job.record.spec;
    match api.finalizer.cancel(spec).await? {
        Cancelled::Yes => {}
        Cancelled::Ended(state) => return Err(ApiError::already_ended(state)),
        Cancelled::Missing => return Err(ApiError::no_such_job(&spec.id.to_string())),
    }
    let head = api.store.jobs().head_of(&spec.app, spec.id).await?;
    view(&api, head.unwrap_or(job)).await
}

/// Puts a stored input into its place. One that was deleted is shown as null.
async fn show_input(api: &Api, job: &mut JobSpec) -> Result<(), ApiError> {
    match api.submitter.inputs.load(job).await {
        Ok(()) => Ok(()),
        Err(InputError::Missing { .. }) => Ok(()),
        Err(error) => {
            tracing::warn!(job.id = %job.id, %error, "could not show an input");
            let message =
                "the job's input cannot be read from the storage right now; try again soon";
            Err(ApiError::unavailable(message))
        }
    }
}

async fn view(api: &Api, job: JobHead) -> Result<Json<Job>, ApiError> {
    let (status, head) = job_stream::now(api, job, false).await?;
    let whole = api
        .store
        .jobs()
        .job_of(&head.spec.app, head.spec.id)
        .await?;
    let mut record = whole.ok_or_else(|| ApiError::no_such_job(&head.spec.id.to_string()))?;
    record.progress = status.progress;
    match record.spec.no_store {
        true => record.spec.input = Value::Null,
        false => show_input(api, &mut record.spec).await?,
    }
    record.spec.stored_input = None;
    let expires_s = expires_s(&record);
    references::to_signed_urls(&mut record.spec.input, &api.signed_urls, expires_s);
    if let Some(output) = &mut record.output {
        references::to_signed_urls(output, &api.signed_urls, expires_s);
        record.spec.stamp_model_version(output);
    }
    Ok(Json(Job {
        record,
        queue_position: status.queue_position,
        steps: status.steps,
    }))
}
