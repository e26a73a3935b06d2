//! What is sent and what comes back.

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
    /// What follows `owner/name/`; empty for the app's root.
    pub path: String,
    /// What the job needs.
    pub hint: Option<Hint>,
    /// Its lane.
    pub priority: Priority,
    /// The app's input.
    pub input: Value,
}

impl Submission {
    /// A job of normal priority, without a hint.
    pub fn new(app: AppId, input: Value) -> Self {
        Self {
            app,
            path: String::new(),
            hint: None,
            priority: Priority::Normal,
            input,
        }
    }

    /// Says what the job needs.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Puts the job into a lane.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// The answer to a submission: fal's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// `IN_QUEUE`.
    pub status: String,
    /// The job's id.
    pub request_id: JobId,
    /// Where its result will be.
    pub response_url: String,
    /// Where its status is.
    pub status_url: String,
    /// Where it can be cancelled.
    pub cancel_url: String,
    /// Jobs ahead of it.
    pub queue_position: Option<u64>,
}

/// A job as `/v1/jobs/{id}` shows it: its record, artifacts as URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The record.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Jobs ahead of it, while it waits.
    #[serde(default)]
    pub queue_position: Option<u64>,
    /// The step of a flow that is under way; if that is a flow itself, its step follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepView>,
}

/// A step that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name in the route.
    pub name: String,
    /// Which of the route's steps, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// The app that runs it, or the route of a flow of its own.
    pub app: AppId,
    /// Its own job.
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

/// One app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its name.
    pub app: AppId,
    /// Jobs that wait.
    pub queued: u64,
    /// Live runners.
    pub runners: u64,
    /// How its jobs are routed.
    pub policy: String,
    /// How long a job that is submitted now waits for a runner, s; none without runners.
    #[serde(default)]
    pub wait_s: Option<f64>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// Its name.
    pub route: AppId,
    /// How it chooses.
    pub kind: RouteKind,
    /// The apps and routes that it may choose.
    pub to: Vec<AppId>,
}

/// Some dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The oldest of each queue first.
    pub letters: Vec<DeadLetterRecord>,
    /// There may be more.
    pub truncated: bool,
}

/// A dead letter without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// The job's id, if it is a job's; else the letter's own.
    pub id: JobId,
    /// `owner/name`, or `_/submissions`: for apps that do not exist.
    pub place: String,
    /// `job` or `submission`.
    pub kind: String,
    /// Why it could not be run.
    pub reason: String,
    /// Since when, Unix ms.
    pub since_ms: u64,
}

/// A key that was just made.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedKey {
    /// What may be seen of it.
    #[serde(flatten)]
    pub key: ApiKey,
    /// `id:secret`, told this once.
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
