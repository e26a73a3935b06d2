//! Whether this router lives, and whether it can take jobs.

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

/// The process lives.
#[derive(Serialize, ToSchema)]
struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// What each server can do: `ok`, or what is wrong with it.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
struct ReadinessView {
    #[schema(example = "ok")]
    rabbitmq: String,
    #[schema(example = "ok")]
    redis: String,
    #[schema(example = "ok")]
    storage: String,
    /// Settings of the servers under which jobs or results can get lost.
    warnings: Vec<String>,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// Whether the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = WATCH,
    responses((status = 200, description = "It does", body = Alive))
)]
async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether jobs can be taken and run.
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
