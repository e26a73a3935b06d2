//! Quota of a key: rate of submissions, and number of jobs at a time.

use warmq_store::Store;
use warmq_types::job::JobSpec;

use super::SubmitError;
use crate::access::Caller;

/// A cheap handle on the quotas of all keys.
#[derive(Clone)]
pub(super) struct Quota(Store);

impl Quota {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Counts a submission of the caller.
    ///
    /// # Errors
    /// The rate is exceeded, or Redis is unreachable.
    pub(super) async fn throttle(&self, caller: &Caller) -> Result<(), SubmitError> {
        let (Some(key), Some(rate)) = (caller.owner(), caller.limits().rate) else {
            return Ok(());
        };
        let passed = self.0.api_keys().throttle(key, rate).await?;
        passed.map_err(|wait| SubmitError::TooOften {
            key: key.clone(),
            rate,
            wait,
        })
    }

    /// Returns how many jobs of this app the owner may still have, of `max_jobs` over all apps;
    /// `None` for any number. Concurrent submissions to several apps may exceed the bound, those to
    /// one app cannot. Flows count under their routes, their steps do not.
    pub(super) async fn jobs_left(
        &self,
        job: &JobSpec,
        max_jobs: Option<u64>,
    ) -> Result<Option<u64>, SubmitError> {
        let (Some(owner), Some(max_jobs)) = (&job.owner, max_jobs) else {
            return Ok(None);
        };
        let elsewhere = (self.0.active_jobs().in_other_apps(&job.app, owner)).await?;
        Ok(Some(max_jobs.saturating_sub(elsewhere)))
    }

    /// Returns whether the owner has fewer jobs than were counted, since Redis may have lost some
    /// records.
    pub(super) async fn overcounted(&self, job: &JobSpec) -> Result<bool, SubmitError> {
        match &job.owner {
            Some(owner) => Ok((self.0.active_jobs().forget_lost(&job.app, owner)).await?),
            None => Ok(false),
        }
    }
}
