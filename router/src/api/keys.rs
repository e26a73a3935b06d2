//! `/v1/keys`: create, list, change, revoke. A secret is returned once, at the creation of its key.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_store::{KeyCreation, KeyRevocation};
use warmq_types::access::{ApiKey, KeyChange, NewKey};
use warmq_types::http::{CreatedKey, Keys};
use warmq_types::ids::KeyId;
use warmq_types::job::JobError;

use super::auth::By;
use super::extract::Path;
use super::openapi::{Changing, Creating, Finding, Listing, OPERATE};
use super::{Api, ApiError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(change, revoke))
}

/// Lists the keys, except that of the settings.
#[utoipa::path(
    get,
    path = "/keys",
    operation_id = "keys",
    tag = OPERATE,
    responses((status = 200, description = "The keys, the oldest first", body = Keys), Listing)
)]
async fn list(State(api): State<Api>) -> Result<Json<Keys>, ApiError> {
    let keys = api.keys.list().await?;
    Ok(Json(Keys { keys }))
}

/// Creates a key. The first one must have scope admin: from then on every request requires a key.
#[utoipa::path(
    post,
    path = "/keys",
    operation_id = "create_key",
    tag = OPERATE,
    request_body = NewKey,
    responses(
        (status = 201, description = "The key with its secret, which is returned only once", body = CreatedKey),
        Creating,
    )
)]
// The body must be `application/json`, which a web page cannot send without CORS permission:
// without keys, a page could otherwise create one from the browser of the router's operator.
async fn create(
    State(api): State<Api>,
    By(caller): By,
    requested: Result<Json<NewKey>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(requested) = requested.map_err(|rejection| unreadable(&rejection, "invalid_key"))?;
    if requested.scopes.is_empty() {
        let message = "at least one scope is required; known: submit:owner/name, submit:owner/*, submit:*, read, watch, admin";
        return Err(JobError::field(&["scopes"], "no_scopes", message).into());
    }
    let (key, credentials, created) = api.keys.create(requested).await?;
    match created {
        KeyCreation::Yes => {}
        KeyCreation::Taken => {
            return Err(ApiError::unavailable(
                "the generated id exists already; try again",
            ));
        }
        KeyCreation::NoAdmin => {
            return Err(ApiError::bad_request(
                "the first key must have scope admin: from then on every request requires a key, and \
                 no other key could create one",
            ));
        }
    }
    let by = caller.owner().map_or("no key", KeyId::as_str);
    tracing::info!(key.id = %key.id, by, "created a key");
    let created = CreatedKey {
        key,
        credentials: credentials.expose(),
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(created)).into_response())
}

/// Changes a key: its limits become those of the body, in every router within 2 s. Of concurrent
/// changes the last one counts. The key of the settings cannot be changed.
#[utoipa::path(
    patch,
    path = "/keys/{id}",
    operation_id = "change_key",
    tag = OPERATE,
    params(("id" = String, Path, description = "The key's id")),
    request_body = KeyChange,
    responses((status = 200, description = "The key as it is now", body = ApiKey), Changing)
)]
async fn change(
    State(api): State<Api>,
    By(caller): By,
    Path(id): Path<String>,
    requested: Result<Json<KeyChange>, JsonRejection>,
) -> Result<Json<ApiKey>, ApiError> {
    let Json(requested) = requested.map_err(|rejection| unreadable(&rejection, "invalid_key"))?;
    let id = KeyId::parse(&id).map_err(|_| unknown())?;
    let changed = api.keys.set_limits(&id, requested.limits).await?;
    let key = changed.ok_or_else(unknown)?;
    let by = caller.owner().map_or("no key", KeyId::as_str);
    tracing::info!(key.id = %id, by, "changed the limits of a key");
    Ok(Json(key))
}

/// Revokes a key: every router refuses it within 2 s.
#[utoipa::path(
    delete,
    path = "/keys/{id}",
    operation_id = "revoke_key",
    tag = OPERATE,
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "The key is revoked"), Finding)
)]
async fn revoke(
    State(api): State<Api>,
    By(caller): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = KeyId::parse(&id).map_err(|_| unknown())?;
    match api.keys.revoke(&id).await? {
        KeyRevocation::Yes => {}
        KeyRevocation::Unknown => return Err(unknown()),
        KeyRevocation::LastAdmin => {
            return Err(ApiError::bad_request(
                "the key is the last one with scope admin: revoke the other keys first, or create another one with scope admin",
            ));
        }
    }
    let by = caller.owner().map_or("no key", KeyId::as_str);
    tracing::info!(key.id = %id, by, "revoked a key");
    if !api.keys.has_any().await? {
        tracing::warn!(
            "the last key is revoked: this router refuses all requests until it restarts, and then requires no key on its \
             loopback address; restart it with --admin-key, or create a key right after the restart"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

fn unknown() -> ApiError {
    ApiError::not_found("the key does not exist")
}

/// Returns the error of a body that is not of the expected kind; `error_type` if it is JSON.
pub(super) fn unreadable(rejection: &JsonRejection, error_type: &str) -> ApiError {
    match rejection {
        JsonRejection::JsonDataError(_) => {
            JobError::field(&[], error_type, rejection.body_text()).into()
        }
        JsonRejection::MissingJsonContentType(_) => {
            ApiError::bad_request("the body must be JSON with content-type application/json")
        }
        _ => ApiError::bad_request(rejection.body_text()),
    }
}
