//! The state of runners and queues at one moment, and what changed between two moments: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{Priority, Progress};
use warmq_types::policy_name::PolicyName;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;

/// A runner with its job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RunnerOverview {
    /// The runner.
    #[serde(flatten)]
    pub(crate) record: RunnerRecord,
    /// The job that it runs or was claimed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<RunningOverview>,
}

/// What a runner does with its job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RunningOverview {
    /// State of the job: dispatched until the runner starts it.
    pub(crate) state: JobState,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<Hint>,
    /// Begin of the attempt, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_ms: Option<u64>,
    /// Progress; its preview is for callers that may read every job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
}

/// The waiting jobs of an app.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct QueueOverview {
    /// The app.
    pub(crate) app: AppId,
    /// Its routing policy.
    pub(crate) policy: PolicyName,
    /// Number of waiting jobs.
    pub(crate) waiting: u64,
    /// Those of them that were read for the fields below: the first 20,000.
    pub(crate) read: u64,
    /// Number of waiting jobs in the normal lane.
    pub(crate) normal: u64,
    /// Number of waiting jobs in the low lane.
    pub(crate) low: u64,
    /// Time of acceptance of the first job, Unix ms.
    #[schema(required)]
    pub(crate) oldest_ms: Option<u64>,
    /// Waiting jobs per model, the most first, at most 30 models.
    pub(crate) models: Vec<ModelBacklog>,
    /// Held jobs among the first 300, those whose patience ends first, at most 50.
    pub(crate) held: Vec<HeldOverview>,
    /// Number of held jobs among the first 300.
    pub(crate) held_count: u64,
    /// Number of healthy runners.
    pub(crate) runners: u64,
    /// Number of runners that can be claimed.
    pub(crate) idle: u64,
    /// Expected wait of a job submitted now, s; null without runners.
    #[schema(required)]
    pub(crate) wait_s: Option<f64>,
}

/// The waiting jobs for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ModelBacklog {
    /// The model; null for jobs without a hint.
    #[schema(required)]
    pub(crate) hint: Option<Hint>,
    /// Their number.
    pub(crate) waiting: u64,
}

/// A job that its dispatcher holds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct HeldOverview {
    /// The job.
    pub(crate) id: JobId,
    /// Its model; null without a hint.
    #[schema(required)]
    pub(crate) hint: Option<Hint>,
    /// Its lane.
    pub(crate) priority: Priority,
    /// Begin of the hold, Unix ms.
    pub(crate) since_ms: u64,
    /// End of its patience, Unix ms.
    pub(crate) until_ms: u64,
    /// Why it is held.
    pub(crate) reason: String,
}

/// A runner's app and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RunnerKey {
    app: AppId,
    id: RunnerId,
}

/// What changed since an earlier event; in the first event, everything.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct OverviewChanges<'s> {
    /// Time of this state by the servers' clock, Unix ms.
    pub(crate) at_ms: u64,
    /// Whether this is the whole state: what it does not list does not exist.
    pub(crate) whole: bool,
    /// New and changed runners.
    #[schema(value_type = Vec<RunnerOverview>)]
    pub(crate) runners: Vec<&'s RunnerOverview>,
    /// Runners that are gone.
    pub(crate) gone: Vec<RunnerKey>,
    /// New and changed queues.
    #[schema(value_type = Vec<QueueOverview>)]
    pub(crate) queues: Vec<&'s QueueOverview>,
    /// Apps that are gone.
    #[schema(value_type = Vec<AppId>)]
    pub(crate) gone_apps: Vec<&'s AppId>,
}

/// The state at one moment. What did not change is shared with the snapshot before.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) at_ms: u64,
    runners: BTreeMap<(AppId, RunnerId), Arc<RunnerOverview>>,
    queues: BTreeMap<AppId, Arc<QueueOverview>>,
}

impl Snapshot {
    /// Returns a snapshot that shares what it has in common with the one `before`.
    pub(crate) fn new(
        at_ms: u64,
        runners: Vec<RunnerOverview>,
        queues: Vec<QueueOverview>,
        before: Option<&Self>,
    ) -> Self {
        let runners = runners.into_iter().map(|runner| {
            let key = (runner.record.app.clone(), runner.record.id.clone());
            let known = before.and_then(|before| before.runners.get(&key));
            let shared = known.filter(|known| looks_alike(known, &runner));
            let shared = shared.map_or_else(|| Arc::new(runner), Arc::clone);
            (key, shared)
        });
        let queues = queues.into_iter().map(|queue| {
            let known = before.and_then(|before| before.queues.get(&queue.app));
            let shared = known.filter(|known| ***known == queue);
            let app = queue.app.clone();
            (app, shared.map_or_else(|| Arc::new(queue), Arc::clone))
        });
        Self {
            at_ms,
            runners: runners.collect(),
            queues: queues.collect(),
        }
    }

    /// Returns what changed since `before`; everything without it.
    pub(crate) fn changes<'s>(&'s self, before: Option<&'s Self>) -> OverviewChanges<'s> {
        let none = Self::default();
        let known = before.unwrap_or(&none);
        let runners = self.runners.iter().filter(|(key, runner)| {
            let known = known.runners.get(key);
            known.is_none_or(|known| !Arc::ptr_eq(known, runner))
        });
        let queues = self.queues.iter().filter(|(app, queue)| {
            let known = known.queues.get(app);
            known.is_none_or(|known| !Arc::ptr_eq(known, queue))
        });
        let (runners, queues) = (
            runners.map(|(_, runner)| &**runner).collect(),
            queues.map(|(_, queue)| &**queue).collect(),
        );
        let gone = before.into_iter().flat_map(|before| before.runners.keys());
        let gone = gone.filter(|key| !self.runners.contains_key(key));
        let apps = before.into_iter().flat_map(|before| before.queues.keys());
        OverviewChanges {
            at_ms: self.at_ms,
            whole: before.is_none(),
            runners,
            gone: (gone.cloned())
                .map(|(app, id)| RunnerKey { app, id })
                .collect(),
            queues,
            gone_apps: apps.filter(|app| !self.queues.contains_key(app)).collect(),
        }
    }
}

/// Returns whether two states of a runner differ at most in the end of its lease, which every
/// heartbeat moves.
fn looks_alike(known: &RunnerOverview, new: &RunnerOverview) -> bool {
    let (a, b) = (&known.record, &new.record);
    let same_lease = RunnerRecord {
        lease_until_ms: a.lease_until_ms,
        ..b.clone()
    };
    *a == same_lease && known.running == new.running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runner(name: &str, lease_until_ms: u64, hints: &[&str]) -> RunnerOverview {
        let record = json!({
            "id": name, "app": "a/b", "epoch": 1, "host": "h", "pid": 1, "engine": "timed",
            "device": "cpu", "memory_budget_bytes": 1, "memory_bytes": 0, "hints": hints,
            "idle": true, "job": null, "since_ms": 1, "lease_until_ms": lease_until_ms,
        });
        RunnerOverview {
            record: serde_json::from_value(record).unwrap(),
            running: None,
        }
    }

    fn names<'c>(changes: &'c OverviewChanges<'_>) -> Vec<&'c str> {
        let runners = changes.runners.iter();
        runners.map(|runner| runner.record.id.as_str()).collect()
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_loaded_model_is_one() {
        let first = Snapshot::new(
            1,
            vec![runner("a", 1, &[]), runner("b", 1, &[])],
            vec![],
            None,
        );
        let whole = first.changes(None);
        assert_eq!((whole.whole, names(&whole)), (true, vec!["a", "b"]));
        let runners = vec![runner("a", 2, &[]), runner("b", 2, &["m"])];
        let second = Snapshot::new(2, runners, vec![], Some(&first));
        let changes = second.changes(Some(&first));
        assert_eq!((changes.whole, names(&changes)), (false, vec!["b"]));
        assert!(changes.gone.is_empty());
        let third = Snapshot::new(3, vec![runner("b", 3, &["m"])], vec![], Some(&second));
        let changes = third.changes(Some(&first));
        assert_eq!(
            names(&changes),
            ["b"],
            "a viewer that missed the second one"
        );
        assert_eq!(changes.gone.len(), 1);
    }
}
