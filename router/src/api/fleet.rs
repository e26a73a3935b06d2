//! `/v1/apps` and `/v1/runners`: what is there.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use warmq_common::config::PolicyName;
use warmq_common::ids::AppId;
use warmq_common::store::RunnerRecord;

use super::gate::By;
use super::{Api, ApiError};

#[derive(Serialize)]
pub(super) struct AppsView {
    apps: Vec<AppView>,
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
pub(super) struct RunnersView {
    runners: Vec<RunnerRecord>,
}

#[derive(Deserialize)]
pub(super) struct OneApp {
    app: Option<String>,
}

/// Those that the caller may submit to; all, for one that watches.
pub(super) async fn apps(
    State(api): State<Api>,
    By(caller): By,
) -> Result<Json<AppsView>, ApiError> {
    let mut apps = Vec::new();
    let known = api.apps.all().await?.into_iter();
    for app in known.filter(|app| caller.knows(app)) {
        apps.push(AppView {
            policy: api.apps.config(&app).policy,
            queued: api.store.queue_length(&app).await?,
            runners: api.store.runners(&app).await?.len(),
            app,
        });
    }
    Ok(Json(AppsView { apps }))
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
