//! `/v1/config/reload`: the configuration, read again.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::http::Route;
use warmq_types::ids::AppId;
use warmq_types::job::{FieldError, JobError};

use super::apps;
use super::openapi::{Creating, OPERATE};
use super::{Api, ApiError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(reload))
}

/// Declared apps and routes.
#[derive(Serialize, ToSchema)]
struct Reloaded {
    /// The apps that the file names.
    apps: Vec<AppId>,
    /// Its routes.
    routes: Vec<Route>,
}

/// Reads apps and routes again. If there are mistakes, the response lists all of them, and the
/// previous declarations remain valid.
#[utoipa::path(
    post,
    path = "/config/reload",
    operation_id = "reload_config",
    tag = OPERATE,
    responses((status = 200, description = "The apps and routes of the file", body = Reloaded), Creating)
)]
async fn reload(State(api): State<Api>) -> Result<Json<Reloaded>, ApiError> {
    let routing = api.reload.now().await.map_err(|problems| {
        let problems = problems.sentences().iter().map(|problem| FieldError {
            loc: vec!["config".into()],
            msg: problem.clone(),
            error_type: "invalid_config".to_owned(),
        });
        JobError::fields(problems.collect())
    })?;
    Ok(Json(Reloaded {
        apps: routing.apps.names().cloned().collect(),
        routes: apps::declared_routes(&routing),
    }))
}
