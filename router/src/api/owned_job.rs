//! Extracts the job of a path. It alone reads a job for a caller, so the rule of ownership is
//! enforced here.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use warmq_store::{JobHead, Store};
use warmq_types::ids::AppId;
use warmq_types::job::JobSpec;

use super::auth::By;
use super::extract::Path;
use super::{Api, ApiError};
use crate::access::Right;

/// The job of the path `…/{id}` that the caller may read, without input and output, since clients
/// poll ten times a second. A job of another owner or app counts as not found.
pub(super) struct OwnedJob(pub(super) JobHead);

#[derive(Deserialize)]
struct Address {
    owner: Option<String>,
    app: Option<String>,
    id: String,
}

impl Address {
    /// Returns the app or route in the path.
    fn app(&self) -> Option<AppId> {
        let (owner, app) = (self.owner.as_ref()?, self.app.as_ref()?);
        AppId::parse(&format!("{owner}/{app}")).ok()
    }

    /// Returns whether the path has the job's app or the route that it was submitted to, or
    /// neither.
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

    /// Finds the job in the app of the path, or in the app that its id refers to.
    async fn find(&self, store: &Store) -> Result<Option<JobHead>, warmq_store::Error> {
        let Ok(job) = self.id.parse() else {
            return Ok(None);
        };
        let named = self.app();
        if let Some(app) = &named
            && let Some(found) = store.jobs().head_of(app, job).await?
        {
            return Ok(Some(found));
        }
        match store.jobs().job_app(job).await? {
            Some(app) if named.as_ref() != Some(&app) => store.jobs().head_of(&app, job).await,
            _ => Ok(None),
        }
    }
}

impl FromRequestParts<Api> for OwnedJob {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let By(caller) = By::from_request_parts(parts, api).await?;
        caller.may(Right::Read)?;
        let Path(address) = Path::<Address>::from_request_parts(parts, api).await?;
        let found = address.find(&api.store).await?;
        found
            .filter(|job| address.fits(&job.record.spec) && caller.owns(&job.record.spec))
            .map(Self)
            .ok_or_else(|| ApiError::no_such_job(&address.id))
    }
}
