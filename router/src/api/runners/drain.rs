//! `/v1/runners/{id}/drain`: ends a runner without losing its job.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::runner::RunnerRecord;

use super::OneApp;
use super::named::{self, RunnerPath};
use crate::api::extract::{Path, Query};
use crate::api::openapi::{Finding, OPERATE};
use crate::api::{Api, ApiError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(drain))
}

/// Drains a runner: it takes no further job, ends the one that it has, and leaves within 5 s. Its
/// process exits with status 0 once all its runners have left. Repeated requests have no further
/// effect.
#[utoipa::path(
    post,
    path = "/runners/{id}/drain",
    operation_id = "drain_runner",
    tag = OPERATE,
    params(RunnerPath, OneApp),
    responses((status = 202, description = "The runner drains", body = RunnerRecord), Finding)
)]
async fn drain(
    State(api): State<Api>,
    Path(path): Path<RunnerPath>,
    Query(query): Query<OneApp>,
) -> Result<(StatusCode, Json<RunnerRecord>), ApiError> {
    let runner = named::find(&api, &path, query).await?;
    match api
        .store
        .membership()
        .drain(&runner.app, &runner.id)
        .await?
    {
        true => {
            let draining = RunnerRecord {
                idle: false,
                draining: true,
                ..runner
            };
            Ok((StatusCode::ACCEPTED, Json(draining)))
        }
        false => Err(named::gone()),
    }
}
