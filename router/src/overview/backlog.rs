//! What waits in an app's queue. The fixed fields of a job are read once, so that a long queue
//! costs little while it is watched.

use std::collections::{BTreeMap, HashMap};

use warmq_rules::AppLoadEstimate;
use warmq_store::{Error, HeldJob, Store, WaitingJob};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Priority;
use warmq_types::policy_name::PolicyName;

use super::snapshot::{HeldOverview, ModelBacklog, QueueOverview};

/// Maximum number of waiting jobs that are read per app.
const MAX_READ: usize = 20_000;

/// Number of first jobs of which held ones are looked for.
const MAX_HELD_READ: usize = 300;

/// Maximum number of held jobs in an overview.
const MAX_HELD_SHOWN: usize = 50;

/// Maximum number of models in an overview.
const MAX_MODELS: usize = 30;

/// The waiting jobs of an app, as last read.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    count: u64,
    /// In their order.
    ids: Vec<JobId>,
    jobs: HashMap<JobId, WaitingJob>,
    held: Vec<HeldJob>,
}

impl Backlog {
    /// Reads the queue of `app` again.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub(super) async fn refresh(&mut self, store: &Store, app: &AppId) -> Result<(), Error> {
        let (count, ids) = store.waiting().jobs(app, MAX_READ).await?;
        let unknown = ids.iter().filter(|id| !self.jobs.contains_key(id));
        let unknown: Vec<JobId> = unknown.copied().collect();
        let facts = store.waiting().facts(app, &unknown).await?;
        let mut known = std::mem::take(&mut self.jobs);
        known.extend((unknown.into_iter().zip(facts)).filter_map(|(id, job)| Some((id, job?))));
        let still = ids.iter().filter_map(|id| Some((*id, known.remove(id)?)));
        self.jobs = still.collect();
        let first = &ids[..ids.len().min(MAX_HELD_READ)];
        self.held = store.waiting().held(app, first).await?;
        (self.count, self.ids) = (count, ids);
        Ok(())
    }

    /// Returns the overview of the queue.
    pub(super) fn overview(
        &self,
        app: AppId,
        policy: PolicyName,
        load: &AppLoadEstimate,
    ) -> QueueOverview {
        let low = self.jobs.values();
        let low = low.filter(|job| job.priority == Priority::Low).count();
        let first = self.ids.iter().find_map(|id| self.jobs.get(id));
        let mut held: Vec<HeldOverview> = self.held.iter().map(|held| self.held(held)).collect();
        held.sort_by_key(|held| (held.until_ms, held.id));
        held.truncate(MAX_HELD_SHOWN);
        QueueOverview {
            policy,
            waiting: self.count,
            read: self.jobs.len() as u64,
            normal: (self.jobs.len() - low) as u64,
            low: low as u64,
            oldest_ms: first.map(|job| job.created_ms),
            models: self.models(),
            held,
            held_count: self.held.len() as u64,
            runners: load.runners,
            idle: load.idle,
            wait_s: Some(load.wait_s).filter(|wait_s| wait_s.is_finite()),
            app,
        }
    }

    fn held(&self, held: &HeldJob) -> HeldOverview {
        let job = self.jobs.get(&held.id);
        HeldOverview {
            id: held.id,
            hint: job.and_then(|job| job.hint.clone()),
            priority: job.map(|job| job.priority).unwrap_or_default(),
            since_ms: held.hold.since_ms,
            until_ms: held.hold.until_ms,
            reason: held.hold.reason.clone(),
        }
    }

    fn models(&self) -> Vec<ModelBacklog> {
        let mut counts: BTreeMap<Option<&Hint>, u64> = BTreeMap::new();
        for job in self.jobs.values() {
            *counts.entry(job.hint.as_ref()).or_default() += 1;
        }
        let models = counts.into_iter().map(|(hint, waiting)| ModelBacklog {
            hint: hint.cloned(),
            waiting,
        });
        let mut models: Vec<ModelBacklog> = models.collect();
        models.sort_by_key(|model| std::cmp::Reverse(model.waiting));
        models.truncate(MAX_MODELS);
        models
    }
}
