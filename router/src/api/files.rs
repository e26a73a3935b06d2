//! `/files/…`: artifacts, never as anything that a browser would run.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Path;
use super::openapi::{FILES, Finding};
use super::{Api, ApiError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show))
}

/// A file that a job made.
#[utoipa::path(
    get,
    path = "/files/{*key}",
    operation_id = "file",
    tag = FILES,
    params((
        "key" = String, Path, min_length = 1,
        description = "What follows `/files/` in the URL that the job's output gave. It is of several segments, which OpenAPI can not say."
    )),
    responses(
        (status = 200, description = "The file", content(
            ("image/png"),
            ("image/jpeg"),
            ("image/webp"),
            ("application/json"),
            ("application/octet-stream"),
        )),
        Finding,
    )
)]
async fn show(State(api): State<Api>, Path(key): Path<String>) -> Result<Response, ApiError> {
    let found = api.artifacts.get(&key).await.map_err(|error| {
        tracing::warn!(%error, "could not read an artifact");
        ApiError::unavailable("the storage does not answer right now; try again soon")
    })?;
    let body = found.ok_or_else(|| ApiError::not_found("there is no such file"))?;
    let headers = [
        (header::CONTENT_TYPE, content_type(&key)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // An artifact never changes: its key holds the job's id.
        (
            header::CACHE_CONTROL,
            "private, max-age=31536000, immutable",
        ),
    ];
    Ok((headers, body).into_response())
}

fn content_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, extension)| extension) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
