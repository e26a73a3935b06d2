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

/// The process lives.
#[derive(Serialize, ToSchema)]
struct Alive {
    #[schema(example = "ok")]
    status: &'static str,
}

/// What each server says: `ok`, or what is wrong with it.
#[derive(Serialize, ToSchema)]
struct Readiness {
    #[schema(example = "ok")]
    rabbitmq: String,
    #[schema(example = "ok")]
    redis: String,
    /// Settings of theirs under which jobs can get lost.
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

/// Whether jobs can be taken.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = WATCH,
    responses(
        (status = 200, description = "They can", body = Readiness),
        (status = 503, description = "A server is away", body = Readiness),
    )
)]
async fn ready(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    // Asking for its settings is asking whether it answers.
    let redis = api
        .store
        .weakness()
        .await
        .map_err(|error| error.to_string());
    let rabbitmq = api.publisher.channel().await.map(drop);
    let rabbitmq = rabbitmq.map_err(|error| error.to_string());
    let status = match (&redis, &rabbitmq) {
        (Ok(_), Ok(())) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let warnings = redis.iter().flatten().cloned().collect();
    let word = |server: Result<(), String>| server.err().unwrap_or_else(|| "ok".to_owned());
    let readiness = Readiness {
        rabbitmq: word(rabbitmq),
        redis: word(redis.map(drop)),
        warnings,
    };
    (status, Json(readiness))
}
