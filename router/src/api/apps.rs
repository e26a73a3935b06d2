//! `/v1/apps`: the apps with their load; `/v1/apps/{owner}/{app}`: one of them, with its input.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_config::ScalingConfig;
use warmq_types::hint::Hint;
use warmq_types::http::{App, Apps, Route};
use warmq_types::ids::AppId;
use warmq_types::policy_name::PolicyName;
use warmq_types::scaling::ScalingState;

use super::auth::By;
use super::extract::Path;
use super::openapi::{Finding, Listing, OPERATE};
use super::{Api, ApiError};
use crate::access::Right;
use crate::routing_config::RoutingConfig;

/// An app in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct Name {
    /// Owner: the app's name before the slash.
    #[param(example = "warmq")]
    owner: String,
    /// The app's name after the slash.
    #[param(example = "diffusion")]
    app: String,
}

/// An app: its settings and its input.
#[derive(Serialize, ToSchema)]
struct AppDetails {
    /// The app.
    app: AppId,
    /// Whether the settings name it; otherwise a worker registered it.
    declared: bool,
    /// Routing policy.
    policy: PolicyName,
    /// Maximum hold for a warm runner, ms; null if the policy decides.
    #[schema(required)]
    max_warm_wait_ms: Option<u64>,
    /// Maximum duration of an attempt, ms; null: unlimited.
    #[schema(required)]
    run_timeout_ms: Option<u64>,
    /// Maximum number of attempts.
    max_attempts: u32,
    /// Number of waiting jobs at which submissions are refused; null: unlimited.
    #[schema(required)]
    max_queue_length: Option<u64>,
    /// Retention of records after the end, ms.
    retention_ms: u64,
    /// How its number of runners follows its work; null without `max`.
    #[schema(required)]
    scaling: Option<ScalingDetails>,
    /// Path of the input field that is the hint; null if only a header is.
    #[schema(required)]
    hint_field: Option<String>,
    /// The models that its runners can load; null if they may load any.
    #[schema(required)]
    models: Option<Vec<Hint>>,
    /// JSON Schema of its input; null before its first worker.
    #[schema(required)]
    input_schema: Option<Value>,
}

/// How the number of runners of an app follows its work.
#[derive(Serialize, ToSchema)]
struct ScalingDetails {
    /// Number of runners wanted without any work.
    min: u32,
    /// Maximum number of wanted runners.
    max: u32,
    /// How long runners that are no longer needed stay, ms.
    keep_alive_ms: u64,
    /// Time in which the waiting jobs are to be worked off, ms.
    scale_target_ms: u64,
    /// What the app's leader decided, or, of an app without runners and jobs, which has none, its
    /// minimum; null until a new leader has decided, and for a key that does not watch.
    #[schema(required)]
    now: Option<ScalingState>,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// Which apps there are: those that the settings name, and those that a worker has registered. A
/// key that does not watch sees those that it may submit to.
#[utoipa::path(
    get,
    path = "/apps",
    operation_id = "apps",
    tag = OPERATE,
    responses((status = 200, description = "The apps, by name", body = Apps), Listing)
)]
async fn list(State(api): State<Api>, By(caller): By) -> Result<Json<Apps>, ApiError> {
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
    let mut routes = declared_routes(&routing);
    routes.retain(|route| caller.knows(&route.route));
    Ok(Json(Apps { apps, routes }))
}

/// Returns the declared routes.
pub(super) fn declared_routes(routing: &RoutingConfig) -> Vec<Route> {
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

/// Returns an app with its settings, its models and the JSON Schema of its input.
#[utoipa::path(
    get,
    path = "/apps/{owner}/{app}",
    operation_id = "app",
    tag = OPERATE,
    params(Name),
    responses((status = 200, description = "The app", body = AppDetails), Finding)
)]
async fn show(
    State(api): State<Api>,
    By(caller): By,
    Path(Name { owner, app }): Path<Name>,
) -> Result<Json<AppDetails>, ApiError> {
    let name = format!("{owner}/{app}");
    let missing = || ApiError::not_found(format!("app '{name}' does not exist"));
    let id = AppId::parse(&name).map_err(|_| missing())?;
    let routing = api.apps.routing();
    let found = match caller.knows(&id) {
        true => api.apps.find(&routing, &id).await?,
        false => None,
    };
    let found = found.ok_or_else(missing)?;
    let ms =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = &found.config;
    let models = api.store.published().all_models(&id).await?;
    let scaling = match config.scaling {
        Some(scaling) => Some(ScalingDetails {
            min: scaling.min,
            max: scaling.max,
            keep_alive_ms: ms(scaling.keep_alive),
            scale_target_ms: ms(scaling.target),
            now: match caller.may(Right::Watch) {
                Ok(()) => scaling_now(&api, &id, &scaling).await?,
                Err(_) => None,
            },
        }),
        None => None,
    };
    Ok(Json(AppDetails {
        declared: routing.apps.names().any(|name| *name == id),
        policy: config.policy,
        max_warm_wait_ms: config.max_warm_wait.map(ms),
        run_timeout_ms: config.run_timeout.map(ms),
        max_attempts: config.max_attempts,
        max_queue_length: config.max_queue_length,
        retention_ms: ms(config.retention),
        scaling,
        hint_field: found.hint_path().map(ToString::to_string),
        models: models.map(|models| models.into_iter().collect()),
        input_schema: api.store.published().schema(&id).await?,
        app: id,
    }))
}

/// Returns what the app's leader wants and observes. An app that is not in use has no leader: it
/// needs its minimum of runners.
async fn scaling_now(
    api: &Api,
    app: &AppId,
    config: &ScalingConfig,
) -> Result<Option<ScalingState>, ApiError> {
    if let Some(now) = api.store.scaling().read(app).await? {
        return Ok(Some(now));
    }
    let apps = std::slice::from_ref(app);
    let is_idle = api.store.apps_in_use().in_use(apps).await?.is_empty();
    Ok(is_idle.then(|| ScalingState {
        wanted: config.min.into(),
        hook_error: None,
    }))
}
