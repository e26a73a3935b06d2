//! Liveness and readiness.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::openapi::WATCH;
use crate::readiness::Report;

/// Liveness of the process.
#[derive(Serialize, ToSchema)]
struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// State of each server: `ok` or a problem.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
struct ReadinessView {
    #[schema(example = "ok")]
    rabbitmq: String,
    #[schema(example = "ok")]
    redis: String,
    #[schema(example = "ok")]
    storage: String,
    /// Settings of the servers that endanger jobs or results.
    warnings: Vec<String>,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// Returns whether the process is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = WATCH,
    responses((status = 200, description = "It is alive", body = Alive))
)]
async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Returns whether jobs can be accepted and run.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = WATCH,
    responses(
        (status = 200, description = "They can", body = ReadinessView),
        (status = 503, description = "A server is unreachable, or cannot do what is needed", body = ReadinessView),
    )
)]
async fn ready(State(api): State<Api>) -> (StatusCode, Json<ReadinessView>) {
    let report = api.readiness.report().await;
    let status = match report.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let Report {
        rabbitmq,
        redis,
        storage,
        warnings,
    } = report;
    let word = |server: Result<(), String>| server.err().unwrap_or_else(|| "ok".to_owned());
    let readiness = ReadinessView {
        rabbitmq: word(rabbitmq),
        redis: word(redis),
        storage: word(storage),
        warnings,
    };
    (status, Json(readiness))
}
