//! Extractors for paths and queries, like axum's, with errors in the API's format.

use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use utoipa::IntoParams;

use super::ApiError;

/// What the path names.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(super) struct Path<T>(pub(super) T);

/// What stands behind the `?`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(super) struct Query<T>(pub(super) T);

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// An app.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what submissions read")]
pub(super) struct AppPath {
    /// What stands before the slash in the app's name.
    #[param(example = "warmq")]
    owner: String,
    /// What stands behind it.
    #[param(example = "diffusion")]
    app: String,
}

/// A job of an app.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `OwnedJob` reads")]
pub(super) struct JobPath {
    /// What stands before the slash in the app's name.
    #[param(example = "warmq")]
    owner: String,
    /// What stands behind it.
    #[param(example = "diffusion")]
    app: String,
    /// The job's id: the `request_id` that answered its submission.
    id: String,
}
