//! `/v1/keys`: create, list, revoke. A secret is returned once, at the creation of its key.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_store::{KeyCreation, KeyRevocation};
use warmq_types::access::NewKey;
use warmq_types::http::{CreatedKey, Keys};
use warmq_types::ids::KeyId;
use warmq_types::job::JobError;

use super::auth::By;
use super::extract::Path;
use super::openapi::{Creating, Finding, Listing, OPERATE};
use super::{Api, ApiError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
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

/// Creates a key. The first one must have scope admin: from then on every request needs a key.
#[utoipa::path(
    post,
    path = "/keys",
    operation_id = "create_key",
    tag = OPERATE,
    request_body = NewKey,
    responses(
        (status = 201, description = "The key, with its secret, which is shown only once", body = CreatedKey),
        Creating,
    )
)]
// The body must be `application/json`, which a web page cannot send without CORS permission:
// without keys, a page could otherwise create one from the browser of the router's operator.
async fn create(
    State(api): State<Api>,
    By(caller): By,
    wished: Result<Json<NewKey>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(wished) = wished.map_err(|rejection| unreadable(&rejection))?;
    if wished.scopes.is_empty() {
        let message = "at least one scope is required; known: submit:owner/name, submit:owner/*, submit:*, read, watch, admin";
        return Err(JobError::field(&["scopes"], "no_scopes", message).into());
    }
    let (key, credentials, kept) = api.keys.create(wished).await?;
    match kept {
        KeyCreation::Yes => {}
        KeyCreation::Taken => return Err(ApiError::unavailable("that id is taken; try again")),
        KeyCreation::NoAdmin => {
            return Err(ApiError::bad_request(
                "the first key must be an admin's (scope admin): from then on every request needs a key, and \
                 no request could create a second one",
            ));
        }
    }
    let by = caller.owner().map_or("no key", KeyId::as_str);
    tracing::info!(key.id = %key.id, by, "created a key");
    let made = CreatedKey {
        key,
        credentials: credentials.expose(),
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(made)).into_response())
}

/// Revokes a key: every router refuses it within 2 s.
#[utoipa::path(
    delete,
    path = "/keys/{id}",
    operation_id = "revoke_key",
    tag = OPERATE,
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "It is revoked"), Finding)
)]
async fn revoke(
    State(api): State<Api>,
    By(caller): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let unknown = || ApiError::not_found("the key does not exist");
    let id = KeyId::parse(&id).map_err(|_| unknown())?;
    match api.keys.revoke(&id).await? {
        KeyRevocation::Yes => {}
        KeyRevocation::Unknown => return Err(unknown()),
        KeyRevocation::LastAdmin => {
            return Err(ApiError::bad_request(
                "it is the last key that may manage the others (scope admin): revoke those first, or make another like it",
            ));
        }
    }
    let by = caller.owner().map_or("no key", KeyId::as_str);
    tracing::info!(key.id = %id, by, "revoked a key");
    if !api.keys.has_any().await? {
        tracing::warn!(
            "no key is left: this router refuses every request from now on, and a restarted one requires no keys on its \
             loopback address; start it with --admin-key, or create a key there at once"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

fn unreadable(rejection: &JsonRejection) -> ApiError {
    match rejection {
        JsonRejection::JsonDataError(_) => {
            JobError::field(&[], "invalid_key", rejection.body_text()).into()
        }
        JsonRejection::MissingJsonContentType(_) => {
            ApiError::bad_request("the body must be JSON with content-type application/json")
        }
        _ => ApiError::bad_request(rejection.body_text()),
    }
}
