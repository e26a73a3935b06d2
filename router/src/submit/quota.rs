//! How much a key's holder may submit: how often, and how many jobs at a time.

use warmq_types::job::JobSpec;

use super::{SubmitError, Submitter};
use crate::access::Caller;

impl Submitter {
    /// Counts one more submission of the caller.
    ///
    /// # Errors
    /// It is one too many by now, or Redis is away.
    pub(super) async fn throttle(&self, caller: &Caller) -> Result<(), SubmitError> {
        let (Some(key), Some(rate)) = (caller.owner(), caller.limits().rate) else {
            return Ok(());
        };
        let passed = self.store.throttle(key, rate).await?;
        passed.map_err(|wait| SubmitError::TooOften {
            key: key.clone(),
            rate,
            wait,
        })
    }

    /// How many jobs of its app the job's owner may have at a time, of `bound` over all apps;
    /// `None`: any number. What is submitted to several apps at the same moment may exceed the
    /// bound, what goes to one does not. Flows are counted under their routes, their steps are not.
    ///
    /// # Errors
    /// Redis is away.
    pub(super) async fn jobs_left(
        &self,
        job: &JobSpec,
        bound: Option<u64>,
    ) -> Result<Option<u64>, SubmitError> {
        let (Some(owner), Some(bound)) = (&job.owner, bound) else {
            return Ok(None);
        };
        let elsewhere = self.store.active_elsewhere(&job.app, owner).await?;
        Ok(Some(bound.saturating_sub(elsewhere)))
    }

    /// Whether an owner that has too many jobs has fewer than were counted: Redis may have lost the
    /// records of some.
    ///
    /// # Errors
    /// Redis is away.
    pub(super) async fn overcounted(&self, job: &JobSpec) -> Result<bool, SubmitError> {
        match &job.owner {
            Some(owner) => Ok(self.store.forget_lost_jobs(&job.app, owner).await?),
            None => Ok(false),
        }
    }
}
