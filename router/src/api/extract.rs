//! Extractors for paths and queries, like axum's, with errors in the API's format.

use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use utoipa::IntoParams;

use super::ApiError;

/// Parameters of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(super) struct Path<T>(pub(super) T);

/// Parameters of the query.
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

/// App in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what submissions read")]
pub(super) struct AppPath {
    /// Owner: the app's name before the slash.
    #[param(example = "warmq")]
    owner: String,
    /// The app's name after the slash.
    #[param(example = "diffusion")]
    app: String,
}

/// Job in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `OwnedJob` reads")]
pub(super) struct JobPath {
    /// Owner: the app's name before the slash.
    #[param(example = "warmq")]
    owner: String,
    /// The app's name after the slash.
    #[param(example = "diffusion")]
    app: String,
    /// Id of the job: the `request_id` in the response to its submission.
    id: String,
}
