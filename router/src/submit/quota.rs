//! Quota of a key: rate of submissions, and number of jobs at a time.

use warmq_types::job::JobSpec;

use super::{SubmitError, Submitter};
use crate::access::Caller;

impl Submitter {
    /// Counts a submission of the caller.
    ///
    /// # Errors
    /// The rate is exceeded, or Redis is unreachable.
    pub(super) async fn throttle(&self, caller: &Caller) -> Result<(), SubmitError> {
        let (Some(key), Some(rate)) = (caller.owner(), caller.limits().rate) else {
            return Ok(());
        };
        let passed = self.store.api_keys().throttle(key, rate).await?;
        passed.map_err(|wait| SubmitError::TooOften {
            key: key.clone(),
            rate,
            wait,
        })
    }

    /// Returns how many jobs of this app the owner may still have, of `bound` over all apps; `None`
    /// for any number. Concurrent submissions to several apps may exceed the bound, those to one
    /// app cannot. Flows count under their routes, their steps do not.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub(super) async fn jobs_left(
        &self,
        job: &JobSpec,
        bound: Option<u64>,
    ) -> Result<Option<u64>, SubmitError> {
        let (Some(owner), Some(bound)) = (&job.owner, bound) else {
            return Ok(None);
        };
        let elsewhere = self
            .store
            .active_jobs()
            .in_other_apps(&job.app, owner)
            .await?;
        Ok(Some(bound.saturating_sub(elsewhere)))
    }

    /// Returns whether the owner has fewer jobs than were counted, since Redis may have lost some
    /// records.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub(super) async fn overcounted(&self, job: &JobSpec) -> Result<bool, SubmitError> {
        match &job.owner {
            Some(owner) => Ok(self
                .store
                .active_jobs()
                .forget_lost(&job.app, owner)
                .await?),
            None => Ok(false),
        }
    }
}
