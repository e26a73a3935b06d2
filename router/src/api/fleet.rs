//! `/v1/apps` and `/v1/runners`: what is there.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use warmq_common::config::PolicyName;
use warmq_common::ids::AppId;
use warmq_common::route::RouteKind;
use warmq_common::store::RunnerRecord;

use super::{Api, ApiError};
use crate::declared::Declared;

#[derive(Serialize)]
pub(super) struct AppsView {
    apps: Vec<AppView>,
    /// Names that forward to apps.
    routes: Vec<RouteView>,
}

#[derive(Serialize)]
struct AppView {
    app: AppId,
    policy: PolicyName,
    /// Jobs that wait.
    queued: u64,
    /// Live runners.
    runners: usize,
}

#[derive(Serialize)]
pub(super) struct RouteView {
    route: AppId,
    kind: RouteKind,
    /// The apps and routes that it may choose.
    to: Vec<AppId>,
}

#[derive(Serialize)]
pub(super) struct RunnersView {
    runners: Vec<RunnerRecord>,
}

#[derive(Deserialize)]
pub(super) struct OneApp {
    app: Option<String>,
}

pub(super) async fn apps(State(api): State<Api>) -> Result<Json<AppsView>, ApiError> {
    let mut apps = Vec::new();
    for app in api.apps.all().await? {
        apps.push(AppView {
            policy: api.apps.config(&app).policy,
            queued: api.store.queue_length(&app).await?,
            runners: api.store.runners(&app).await?.len(),
            app,
        });
    }
    let routes = routes(&api.apps.declared());
    Ok(Json(AppsView { apps, routes }))
}

/// The declared routes.
pub(super) fn routes(declared: &Declared) -> Vec<RouteView> {
    let routes = declared.routes.iter();
    routes
        .map(|(name, route)| RouteView {
            route: name.clone(),
            kind: route.kind(),
            to: route.choices().into_iter().cloned().collect(),
        })
        .collect()
}

pub(super) async fn runners(
    State(api): State<Api>,
    Query(asked): Query<OneApp>,
) -> Result<Json<RunnersView>, ApiError> {
    let apps = match asked.app {
        None => api.apps.all().await?,
        Some(name) => {
            let app =
                AppId::parse(&name).map_err(|error| ApiError::bad_request(error.to_string()))?;
            [app].into()
        }
    };
    let mut runners = Vec::new();
    for app in &apps {
        runners.extend(api.store.runners(app).await?);
    }
    Ok(Json(RunnersView { runners }))
}
