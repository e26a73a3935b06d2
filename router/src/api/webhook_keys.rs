//! The public key of webhook signatures, for receivers.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::openapi::{Listing, WATCH};
use super::{Api, ApiError};
use crate::webhook;

/// Lets receivers cache the key.
const CACHE: &str = "public, max-age=3600";

/// Returns the public key of webhook signatures: ED25519, as a JSON Web Key Set.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "webhook_keys",
    tag = WATCH,
    responses((status = 200, description = "RFC 7517; `x` is padded", body = Value), Listing)
)]
pub(super) async fn show(State(api): State<Api>) -> Result<Response, ApiError> {
    let keys = webhook::key(&api.store).await?.public();
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(keys)).into_response())
}
