//! `/v1/apps` and `/v1/runners`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::http::{App, Apps, Route, Runners};
use warmq_types::ids::AppId;

use super::auth::By;
use super::extract::Query;
use super::openapi::{Listing, OPERATE, Querying};
use super::{Api, ApiError};
use crate::routing_config::RoutingConfig;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OneApp {
    /// Only the runners of this app.
    #[param(example = "warmq/diffusion")]
    app: Option<String>,
}

impl OneApp {
    /// Returns the app, or all.
    pub(super) async fn apps(self, api: &Api) -> Result<Vec<AppId>, ApiError> {
        match self.app {
            None => Ok(api.apps.all().await?.into_iter().collect()),
            Some(name) => match AppId::parse(&name) {
                Ok(app) => Ok(vec![app]),
                Err(error) => Err(ApiError::bad_request(error.to_string())),
            },
        }
    }
}

pub(super) fn apps_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(apps))
}

pub(super) fn runners_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(runners))
}

/// Which apps there are: those that the settings name, and those that a worker has registered. A
/// key that does not watch sees those that it may submit to.
#[utoipa::path(
    get,
    path = "/apps",
    tag = OPERATE,
    responses((status = 200, description = "The apps, by name", body = Apps), Listing)
)]
async fn apps(State(api): State<Api>, By(caller): By) -> Result<Json<Apps>, ApiError> {
    let routing = api.apps.routing();
    let known = api.apps.all().await?.into_iter();
    let known = known.filter(|app| caller.knows(app));
    let loads = api.apps.loads.of(&routing, known).await?.into_iter();
    let apps = loads
        .map(|(app, status)| App {
            policy: routing.config(&app).policy,
            queued: status.queued,
            runners: status.runners,
            wait_s: Some(status.wait_s).filter(|wait_s| wait_s.is_finite()),
            run_s: status.run_s,
            cost: status.cost,
            app,
        })
        .collect();
    let mut routes = routes(&routing);
    routes.retain(|route| caller.knows(&route.route));
    Ok(Json(Apps { apps, routes }))
}

/// Returns the declared routes.
pub(super) fn routes(routing: &RoutingConfig) -> Vec<Route> {
    let routes = routing.routes.iter();
    routes
        .map(|(name, route)| Route {
            route: name.clone(),
            kind: route.kind(),
            to: match route.flow() {
                Some(flow) => flow.steps.iter().map(|step| step.app.clone()).collect(),
                None => route.choices().into_iter().cloned().collect(),
            },
        })
        .collect()
}

/// Lists the live runners with their models and activity.
#[utoipa::path(
    get,
    path = "/runners",
    tag = OPERATE,
    params(OneApp),
    responses((status = 200, description = "The runners, by app and name", body = Runners), Querying)
)]
async fn runners(
    State(api): State<Api>,
    Query(query): Query<OneApp>,
) -> Result<Json<Runners>, ApiError> {
    let apps = query.apps(&api).await?;
    let runners = api.store.fleet().runners_of(&apps).await?;
    Ok(Json(Runners { runners }))
}
