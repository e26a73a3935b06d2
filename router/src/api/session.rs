//! `/v1/session`: logs a browser in with a key and out again. The dashboard uses it; other clients
//! send their key with each request.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::access::{ApiKey, Credentials, NoCredentials};
use warmq_types::job::JobError;

use super::auth::Identifier;
use super::keys::unreadable;
use super::openapi::{Creating, Listing, OPERATE};
use super::{Api, ApiError};
use crate::access::header::{SESSION_COOKIE, session_token};
use crate::access::{Caller, Right, SESSION_LIFETIME};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show, log_in, log_out))
}

/// Who sends the request, and what they may do.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Whether requests need a key.
    keys_required: bool,
    /// The key of the request or of its session; null without one.
    #[schema(required)]
    key: Option<ApiKey>,
    /// Whether it may read and cancel its own jobs.
    may_read: bool,
    /// Whether it may submit jobs to some app.
    may_submit: bool,
    /// Whether it may read the state of runners and queues.
    may_watch: bool,
    /// Whether it may manage dead letters, keys and the configuration, and read all jobs.
    may_administer: bool,
}

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    /// The key, `id:secret`.
    #[schema(example = "alice-1:0123456789abcdef")]
    key: String,
}

/// Returns the rights of the request's key or session. Needs neither.
#[utoipa::path(
    get,
    path = "/session",
    operation_id = "session",
    tag = OPERATE,
    responses((status = 200, description = "The caller's rights", body = Session), Listing)
)]
async fn show(
    State(api): State<Api>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = Identifier::of(&api).caller(&method, &headers).await;
    let caller = match caller {
        Ok(caller) => Some(caller),
        Err(error) if error.is_unauthorized() => None,
        Err(error) => return Err(error),
    };
    Ok(uncached(&session(&api, caller.as_ref())))
}

/// Begins a session of 12 hours: the response sets a cookie that browsers send with the requests of
/// this router's pages only. A revoked key ends its sessions.
#[utoipa::path(
    post,
    path = "/session",
    operation_id = "log_in",
    tag = OPERATE,
    request_body = Login,
    responses((status = 200, description = "The session's rights", body = Session), Creating)
)]
async fn log_in(
    State(api): State<Api>,
    login: Result<Json<Login>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(Login { key }) = login.map_err(|rejection| unreadable(&rejection, "invalid_login"))?;
    if !api.keys.require_keys() {
        return Ok(uncached(&session(&api, Some(&Caller::Trusted))));
    }
    let malformed =
        |error: NoCredentials| JobError::field(&["key"], "invalid_key", error.to_string());
    let credentials: Credentials = key.trim().parse().map_err(malformed)?;
    let token = api.keys.log_in(&credentials).await?;
    let caller = api.keys.caller_of_session(&token).await?;
    tracing::info!(key.id = %credentials.id, "a session began");
    let cookie = cookie(&api, token.expose().to_owned(), SESSION_LIFETIME.as_secs());
    let mut response = uncached(&session(&api, Some(&caller)));
    set(&mut response, &cookie);
    Ok(response)
}

/// Ends the request's session, if it has one.
#[utoipa::path(
    delete,
    path = "/session",
    operation_id = "log_out",
    tag = OPERATE,
    responses((status = 204, description = "The session has ended"), Listing)
)]
async fn log_out(State(api): State<Api>, headers: HeaderMap) -> Result<Response, ApiError> {
    if let Some(token) = session_token(&headers) {
        api.keys.log_out(&token).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set(&mut response, &cookie(&api, String::new(), 0));
    Ok(response)
}

fn session(api: &Api, caller: Option<&Caller>) -> Session {
    let may = |right| caller.is_some_and(|caller| caller.may(right).is_ok());
    Session {
        keys_required: api.keys.require_keys(),
        key: match caller {
            Some(Caller::Holder(key)) => Some(key.as_ref().clone()),
            _ => None,
        },
        may_read: may(Right::Read),
        may_submit: may(Right::Upload),
        may_watch: may(Right::Watch),
        may_administer: may(Right::Administer),
    }
}

/// Returns the cookie of a session: out of reach of scripts and of other sites.
fn cookie(api: &Api, token: String, lifetime_s: u64) -> Cookie<'static> {
    let lifetime_s = i64::try_from(lifetime_s).unwrap_or(i64::MAX);
    Cookie::build((SESSION_COOKIE, token))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(api.public_url.starts_with("https:"))
        .max_age(Duration::seconds(lifetime_s))
        .build()
}

fn set(response: &mut Response, cookie: &Cookie<'_>) {
    if let Ok(value) = cookie.to_string().parse() {
        response.headers_mut().insert(SET_COOKIE, value);
    }
}

fn uncached(session: &Session) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(session)).into_response()
}
