//! `/v1/jobs/{id}/explanation`: what happened to a job, in sentences.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_explain::Tree;
use warmq_store::JobHead;
use warmq_types::http::Job;

use super::openapi::{Finding, OPERATE};
use super::owned_job::OwnedJob;
use super::{Api, ApiError, job_stream};

/// What happened to a job.
#[derive(Serialize, ToSchema)]
struct Explanation {
    /// One or two sentences each, in order; those about the steps of a flow are indented by two
    /// spaces per level.
    sentences: Vec<String>,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(explain))
}

/// Explains a job as `warmq explain` does: routes, holds with their reasons, the placement, the
/// cost, and whether the prediction held.
#[utoipa::path(
    get,
    path = "/jobs/{id}/explanation",
    operation_id = "explain",
    tag = OPERATE,
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The explanation", body = Explanation), Finding)
)]
async fn explain(
    State(api): State<Api>,
    OwnedJob(head): OwnedJob,
) -> Result<Json<Explanation>, ApiError> {
    let job = without_input(&api, head).await?;
    // The steps of a flow belong to the flow's owner.
    let tree = Tree::grow(job, |step| {
        let api = &api;
        async move {
            match api.store.jobs().head_of(&step.app, step.job).await? {
                Some(head) => without_input(api, head).await.map(Some),
                None => Ok(None),
            }
        }
    });
    let sentences = warmq_explain::story(&tree.await?, api.store.now_ms().await?);
    Ok(Json(Explanation { sentences }))
}

async fn without_input(api: &Api, head: JobHead) -> Result<Job, ApiError> {
    let (status, mut record) = job_stream::now(api, head, false).await?;
    record.progress = status.progress;
    Ok(Job {
        record,
        queue_position: status.queue_position,
        steps: status.steps,
    })
}
