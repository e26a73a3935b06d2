//! `/docs`: the API's documentation for browsers. All files are in this binary; a content security
//! policy forbids others.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, serve};

use super::extract::Path;
use super::{Api, ApiError};

/// Content security policy: nothing from other hosts, no framing. Swagger UI sets inline styles and
/// displays pictures as `data:` and `blob:`.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The pages of the documentation: no API, so not in it.
pub(super) fn routes() -> Router<Api> {
    // Relative, since a proxy may serve the router below another path.
    let config = Config::from("../openapi.json")
        // Otherwise the document would be sent to an online validator.
        .validator_url("none")
        .display_request_duration(true);
    let config = Arc::new(config);
    let page = move |Path(file): Path<String>| {
        let config = config.clone();
        async move { show(&file, config) }
    };
    Router::new()
        .route("/docs", get(async || redirect("docs/index.html")))
        .route("/docs/{*file}", get(page))
}

/// Returns the first page.
pub(super) const INDEX: &str = "/docs/index.html";

/// Returns whether a path is the folder itself: without its slash, a relative redirect would be
/// wrong.
pub(super) fn is_folder(path: &str) -> bool {
    path == "/docs/"
}

/// Relative to the requested path.
fn redirect(location: &'static str) -> impl IntoResponse {
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)])
}

fn show(file: &str, config: Arc<Config<'static>>) -> Result<Response, ApiError> {
    let found = serve(file, config).map_err(|error| {
        tracing::error!(%error, file, "could not read a page of the documentation");
        ApiError::internal("the page is damaged")
    })?;
    let found = found.ok_or_else(|| ApiError::not_found("the page does not exist"))?;
    let headers = [
        (header::CONTENT_TYPE, found.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}
