//! `/v1/runners`: the live runners; one of them, drained or with other models, by name.
//!
//! | module | contents |
//! | --- | --- |
//! | `named` | the live runner that a path names |
//! | `drain` | ends a runner without losing its job |
//! | `models` | loads, unloads and pins models of a runner |

mod drain;
mod models;
mod named;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::http::Runners;
use warmq_types::ids::AppId;

use super::extract::Query;
use super::openapi::{OPERATE, Querying};
use super::{Api, ApiError};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OneApp {
    /// Only the runners of this app.
    #[param(example = "warmq/diffusion")]
    app: Option<String>,
}

impl OneApp {
    /// Returns the app, or all.
    async fn apps(self, api: &Api) -> Result<Vec<AppId>, ApiError> {
        match self.app {
            None => Ok(api.apps.all().await?.into_iter().collect()),
            Some(name) => match AppId::parse(&name) {
                Ok(app) => Ok(vec![app]),
                Err(error) => Err(ApiError::bad_request(error.to_string())),
            },
        }
    }
}

/// Returns the routes that only read.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list))
}

/// Returns the routes that change runners.
pub(super) fn changing_routes() -> OpenApiRouter<Api> {
    drain::routes().merge(models::routes())
}

/// Lists the live runners with their models and activity.
#[utoipa::path(
    get,
    path = "/runners",
    operation_id = "runners",
    tag = OPERATE,
    params(OneApp),
    responses((status = 200, description = "The runners, by app and name", body = Runners), Querying)
)]
async fn list(
    State(api): State<Api>,
    Query(query): Query<OneApp>,
) -> Result<Json<Runners>, ApiError> {
    let apps = query.apps(&api).await?;
    let runners = api.store.runners().list_of(&apps).await?;
    Ok(Json(Runners { runners }))
}
