//! From a path to the job that it names. Nobody else reads a job for a caller, so the one rule about whose it is stands here.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use warmq_common::ids::AppId;
use warmq_common::job::{JobRecord, JobSpec};

use super::extract::Path;
use super::gate::By;
use super::{Api, ApiError};
use crate::access::Right;

/// The job of the path `…/{id}`, which the caller may look at. One of somebody else, or of another app than the path's, is as
/// unknown as one that there is not.
pub(super) struct Own(pub(super) JobRecord);

#[derive(Deserialize)]
struct Address {
    owner: Option<String>,
    app: Option<String>,
    id: String,
}

impl Address {
    /// Whether it names the job's app, or the route that the job was submitted to; or neither.
    fn fits(&self, job: &JobSpec) -> bool {
        match (&self.owner, &self.app) {
            (Some(owner), Some(app)) => {
                let name = format!("{owner}/{app}");
                [&job.app, job.submitted_to()]
                    .map(AppId::as_str)
                    .contains(&name.as_str())
            }
            _ => true,
        }
    }
}

impl FromRequestParts<Api> for Own {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let By(caller) = By::from_request_parts(parts, api).await?;
        caller.may(Right::Read)?;
        let Path(address) = Path::<Address>::from_request_parts(parts, api).await?;
        let found = match address.id.parse() {
            Ok(job) => api.store.job(job).await?,
            Err(_) => None,
        };
        found
            .filter(|job| address.fits(&job.spec) && caller.owns(&job.spec))
            .map(Self)
            .ok_or_else(|| ApiError::no_such_job(&address.id))
    }
}
