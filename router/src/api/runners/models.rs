//! `/v1/runners/{id}/models`: loads, unloads and pins models of a runner.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::job::{FieldError, JobError};
use warmq_types::runner::{ModelChange, RunnerRecord};

use super::OneApp;
use super::named::{self, RunnerPath};
use crate::api::extract::{Path, Query};
use crate::api::openapi::{Changing, OPERATE};
use crate::api::{Api, ApiError, keys};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(change))
}

/// Queues a change of a runner's models: unpin, unload, pin, load, in this order. The runner
/// executes it once it is idle, within 5 s, takes no job meanwhile, and reports its models
/// afterwards. A model that cannot be loaded is logged by the worker. Pins end with the process.
#[utoipa::path(
    post,
    path = "/runners/{id}/models",
    operation_id = "change_models",
    tag = OPERATE,
    params(RunnerPath, OneApp),
    request_body = ModelChange,
    responses((status = 202, description = "The change is queued", body = ModelChange), Changing)
)]
async fn change(
    State(api): State<Api>,
    Path(path): Path<RunnerPath>,
    Query(query): Query<OneApp>,
    requested: Result<Json<ModelChange>, JsonRejection>,
) -> Result<(StatusCode, Json<ModelChange>), ApiError> {
    let Json(change) =
        requested.map_err(|rejection| keys::unreadable(&rejection, "invalid_change"))?;
    let runner = named::find(&api, &path, query).await?;
    if runner.fault.is_some() {
        return Err(ApiError::unavailable(
            "the runner is faulty: its models can be changed once it passed its self-test",
        ));
    }
    let feed = api.store.runner_feed();
    let state = feed.runner(&runner.app, &runner.id).await?;
    let catalog = state
        .and_then(|(state, _)| state.models)
        .unwrap_or_default();
    let unknown: Vec<FieldError> = change
        .fields()
        .into_iter()
        .flat_map(|(field, models)| models.iter().map(move |model| (field, model)))
        // An engine without a catalog accepts any name; a loaded model may have left the catalog.
        .filter(|(_, model)| !catalog.is_empty() && !catalog.contains(model))
        .filter(|(field, model)| !(field.starts_with("un") && has(&runner, model)))
        .map(|(field, model)| FieldError {
            loc: vec!["body".into(), field.into()],
            msg: format!(
                "the runner's catalog has no model '{model}': it is not there, or does not fit \
                 beside the pinned models"
            ),
            error_type: "model_not_found".to_owned(),
        })
        .collect();
    if !unknown.is_empty() {
        return Err(JobError::fields(unknown).into());
    }
    match api
        .store
        .model_changes()
        .queue(&runner.app, &runner.id, &change)
        .await?
    {
        true => Ok((StatusCode::ACCEPTED, Json(change))),
        false => Err(named::gone()),
    }
}

fn has(runner: &RunnerRecord, model: &warmq_types::hint::Hint) -> bool {
    let mut held = runner.hints.iter().chain(&runner.ram_hints);
    held.any(|held| held == model) || runner.pinned.contains(model)
}
