//! Authorization layer: identifies the caller of each request once, and passes it to the handlers.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use super::{Api, ApiError, cors};
use crate::access::header::session_token;
use crate::access::{AuthError, Caller, Keyring, Right};

/// Requires `right` for `routes`.
pub(super) fn guarded(routes: OpenApiRouter<Api>, api: &Api, right: Right) -> OpenApiRouter<Api> {
    let identifier = Identifier::of(api);
    routes.layer(middleware::from_fn_with_state(
        (identifier, right),
        authorize,
    ))
}

async fn authorize(
    State((identifier, right)): State<(Identifier, Right)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = identifier.caller(request.method(), request.headers());
    let caller = caller.await?;
    caller.may(right)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Identifies callers: by their key, or by a browser's session.
#[derive(Clone)]
pub(super) struct Identifier {
    keys: Keyring,
    public_url: Arc<str>,
}

impl Identifier {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            keys: api.keys.clone(),
            public_url: api.public_url.clone(),
        }
    }

    /// Returns the caller of a request.
    ///
    /// # Errors
    /// It has neither a valid key nor a session, or its session is used by a page of another
    /// origin.
    pub(super) async fn caller(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let Some(token) = session_token(headers).filter(|_| self.keys.require_keys()) else {
            return Ok(self.keys.caller(headers).await?);
        };
        match cors::may_use_session(method, headers, &self.public_url) {
            true => Ok(self.keys.caller_of_session(&token).await?),
            false => Err(ApiError::forbidden(
                "a session serves the pages of this router only; send a key instead",
            )),
        }
    }
}

/// The authenticated caller.
pub(super) struct By(pub(super) Caller);

impl FromRequestParts<Api> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        // Fails closed on a route without the layer.
        let caller = parts.extensions.get::<Caller>().cloned();
        caller
            .map(Self)
            .ok_or_else(|| ApiError::internal("the request was not authenticated"))
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => error.into(),
            AuthError::NoKey(_) | AuthError::Unknown | AuthError::SessionEnded => {
                Self::unauthorized(error.to_string())
            }
        }
    }
}
