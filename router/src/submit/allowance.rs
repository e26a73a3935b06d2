//! How much a key's holder may submit: how often, and how many jobs at a time.

use warmq_common::job::JobSpec;

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

    /// How many jobs of its app the job's owner may have at a time, of `bound` over all apps; `None`: any number. What is
    /// submitted to several apps at the same moment may exceed the bound, what goes to one does not.
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
        let mut apps = self.apps.all().await?;
        // Flows are counted under their routes, their steps are not.
        let declared = self.apps.declared();
        let routes = declared.routes.iter();
        let of_flows = routes.filter(|(_, route)| route.flow().is_some());
        apps.extend(of_flows.map(|(name, _)| name.clone()));
        let others = apps.iter().filter(|app| **app != job.app);
        let elsewhere = self.store.active_jobs(others, owner).await?;
        Ok(Some(bound.saturating_sub(elsewhere)))
    }
}
