//! Requests and responses.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use warmq_types::access::ApiKey;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobRecord, Priority};
use warmq_types::route::RouteKind;
use warmq_types::runner::RunnerRecord;

/// A job to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The app.
    pub app: AppId,
    /// The path after `owner/name/`; empty for the app's root.
    pub path: String,
    /// The hint.
    pub hint: Option<Hint>,
    /// The lane.
    pub priority: Priority,
    /// The input.
    pub input: Value,
}

impl Submission {
    /// Creates a submission of normal priority, without a hint.
    pub fn new(app: AppId, input: Value) -> Self {
        Self {
            app,
            path: String::new(),
            hint: None,
            priority: Priority::Normal,
            input,
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Sets the lane.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// The response to a submission, in fal's format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// `IN_QUEUE`.
    pub status: String,
    /// The job's id.
    pub request_id: JobId,
    /// URL of the result.
    pub response_url: String,
    /// URL of the status.
    pub status_url: String,
    /// URL to cancel the job.
    pub cancel_url: String,
    /// Jobs ahead of it.
    pub queue_position: Option<u64>,
}

/// A job as `/v1/jobs/{id}` returns it: its record, artifacts as URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The record.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Jobs ahead of it, while it waits.
    #[serde(default)]
    pub queue_position: Option<u64>,
    /// The current step of a flow; if that is a flow itself, its current step follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepView>,
}

/// A flow's current step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name in the route.
    pub name: String,
    /// Number of the step in the route, from 1.
    pub number: u32,
    /// Number of steps.
    pub of: u32,
    /// The app of the step, or the route of a nested flow.
    pub app: AppId,
    /// The step's job.
    pub request_id: JobId,
    /// `IN_QUEUE`, `IN_PROGRESS` or `COMPLETED`.
    pub status: String,
    /// Jobs ahead of it, while it waits.
    #[serde(default)]
    pub queue_position: Option<u64>,
}

/// An HTTP status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// 200 when the job succeeded.
    pub status: u16,
    /// The output, or the error.
    pub body: Value,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its name.
    pub app: AppId,
    /// Jobs that wait.
    pub queued: u64,
    /// Live runners.
    pub runners: u64,
    /// The policy.
    pub policy: String,
    /// Predicted wait of a job submitted now, s; none without runners.
    #[serde(default)]
    pub wait_s: Option<f64>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// Its name.
    pub route: AppId,
    /// The kind.
    pub kind: RouteKind,
    /// The possible targets.
    pub to: Vec<AppId>,
}

/// A page of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The letters, the oldest of each queue first.
    pub letters: Vec<DeadLetterRecord>,
    /// Whether there may be more.
    pub truncated: bool,
}

/// A dead letter without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// The job's id, otherwise the letter's own.
    pub id: JobId,
    /// `owner/name`, or `_/submissions`: for apps that do not exist.
    pub place: String,
    /// `job` or `submission`.
    pub kind: String,
    /// Why the job could not run.
    pub reason: String,
    /// When it was dead-lettered, Unix ms.
    pub since_ms: u64,
}

/// A new key.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedKey {
    /// The key without its secret.
    #[serde(flatten)]
    pub key: ApiKey,
    /// `id:secret`, returned only once.
    pub credentials: String,
}

/// Without the secret.
impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreatedKey({})", self.key.id)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<ApiKey>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Redriven {
    pub(super) job_id: JobId,
}

#[derive(Debug, Deserialize)]
pub(super) struct Apps {
    pub(super) apps: Vec<AppRecord>,
    #[serde(default)]
    pub(super) routes: Vec<RouteRecord>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Runners {
    pub(super) runners: Vec<RunnerRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_read_back_as_the_router_writes_it() {
        let id = JobId::generate();
        let wire = json!({
            "id": id, "app": "warmq/diffusion", "hint": "shapes", "priority": "normal",
            "input": {"prompt": "a red circle"}, "created_ms": 1000, "state": "queued",
            "attempt": 0, "fence": 0, "queue_position": 3
        });
        let job: JobView = serde_json::from_value(wire).unwrap();
        assert_eq!(job.record.spec.id, id);
        assert_eq!(job.queue_position, Some(3));
        assert_eq!(job.record.runner, None);
    }
}
