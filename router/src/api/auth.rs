//! Authorization layer: identifies the caller of each request once, and passes it to the handlers.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use super::{Api, ApiError};
use crate::access::{AuthError, Caller, Keyring, Right};

/// Requires `right` for `routes`.
pub(super) fn guarded(routes: OpenApiRouter<Api>, api: &Api, right: Right) -> OpenApiRouter<Api> {
    let state = (api.keys.clone(), right);
    routes.layer(middleware::from_fn_with_state(state, authorize))
}

async fn authorize(
    State((keys, right)): State<(Keyring, Right)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = keys.caller(request.headers()).await?;
    caller.may(right)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
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
            AuthError::NoKey(_) | AuthError::Unknown => Self::unauthorized(error.to_string()),
        }
    }
}
