//! The key that webhooks are signed with, for those who check them.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{Api, ApiError};
use crate::webhook;

/// Receivers need not ask for each webhook.
const CACHE: &str = "public, max-age=3600";

/// A JSON Web Key Set.
pub(super) async fn show(State(api): State<Api>) -> Result<Response, ApiError> {
    let keys = webhook::key(&api.store).await?.public();
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(keys)).into_response())
}
