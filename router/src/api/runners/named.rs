//! The live runner that a path names.

use serde::Deserialize;
use utoipa::IntoParams;
use warmq_types::ids::RunnerId;
use warmq_types::runner::RunnerRecord;

use super::OneApp;
use crate::api::{Api, ApiError};

/// A runner in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RunnerPath {
    /// Id of the runner.
    #[param(example = "gpu-1")]
    id: String,
}

/// Returns the live runner of this name; of several apps' runners the first.
///
/// # Errors
/// 404 without one.
pub(super) async fn find(
    api: &Api,
    path: &RunnerPath,
    query: OneApp,
) -> Result<RunnerRecord, ApiError> {
    let id = RunnerId::parse(&path.id).map_err(|_| gone())?;
    let apps = query.apps(api).await?;
    let runners = api.store.runners().list_of(&apps).await?;
    runners
        .into_iter()
        .find(|runner| runner.id == id)
        .ok_or_else(gone)
}

/// Returns the error for a runner that does not exist.
pub(super) fn gone() -> ApiError {
    ApiError::not_found("the runner does not exist, or its lease has lapsed")
}
