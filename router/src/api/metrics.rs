//! `/metrics`: this router's numbers, for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_metrics::CONTENT_TYPE;

use super::Api;
use super::openapi::WATCH;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show))
}

/// What this process counted, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = WATCH,
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"))
)]
async fn show(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], api.metrics.page())
}
