//! `/docs`: the API to read and to try, in a browser. Everything that the pages need is in this binary, and the browser is told
//! to load nothing from anywhere else.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, serve};

use super::extract::Path;
use super::{Api, ApiError};

/// Nothing from other hosts, and no pages of others around these. Swagger UI sets styles by itself, and shows pictures that it fetched.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The only paths that the documentation does not tell of: they are its own pages.
pub(super) fn routes() -> Router<Api> {
    let config = Config::from("/openapi.json")
        // Else it would be sent to a checker on the internet.
        .validator_url("none")
        .display_request_duration(true);
    let config = Arc::new(config);
    let page = move |Path(file): Path<String>| {
        let config = config.clone();
        async move { show(&file, config) }
    };
    Router::new()
        // Not `/docs/`, whose slash is trimmed: the pages name their parts relative to a folder.
        .route("/docs", get(async || Redirect::to("/docs/index.html")))
        .route("/docs/{*file}", get(page))
}

fn show(file: &str, config: Arc<Config<'static>>) -> Result<Response, ApiError> {
    let found = serve(file, config).map_err(|error| {
        tracing::error!(%error, file, "a page of the documentation is damaged");
        ApiError::internal("this page is damaged")
    })?;
    let found = found.ok_or_else(|| ApiError::not_found("the documentation has no such page"))?;
    let headers = [
        (header::CONTENT_TYPE, found.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}
