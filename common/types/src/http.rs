//! Bodies of the router's HTTP API, for the router that sends and the clients that read them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::ApiKey;
use crate::ids::{AppId, JobId};
use crate::job::{JobRecord, JobSummary};
use crate::policy_name::PolicyName;
use crate::route::RouteKind;
use crate::runner::RunnerRecord;
use crate::state::JobState;

/// fal's names of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusName {
    /// Waits for a runner.
    InQueue,
    /// Runs.
    InProgress,
    /// Has ended, with or without success.
    Completed,
}

impl StatusName {
    /// Returns the name in responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
        }
    }
}

impl From<JobState> for StatusName {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued | JobState::Dispatched => Self::InQueue,
            JobState::Running => Self::InProgress,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Expired => {
                Self::Completed
            }
        }
    }
}

impl fmt::Display for StatusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The active step of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepStatus {
    /// Name in the route.
    pub name: String,
    /// Number of the step, from 1.
    pub number: u32,
    /// Number of declared steps.
    pub of: u32,
    /// The app that runs it, or the route of a nested flow.
    pub app: AppId,
    /// Id of its job, which has a status of its own.
    pub request_id: JobId,
    /// State of the step.
    pub status: StatusName,
    /// Number of jobs in front of it, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u64>,
}

/// A job with its history: `/v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// The record, with signed URLs of files.
    #[serde(flatten)]
    pub record: JobRecord,
    /// Number of jobs in front of it, while it waits.
    pub queue_position: Option<u64>,
    /// The active step of a flow; followed by its own active step if it is a flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
}

/// A page of jobs: `/v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
    /// The next page is the one before this job; null at the end.
    #[schema(required)]
    pub next: Option<JobId>,
}

/// All apps and routes: `/v1/apps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Apps {
    /// The apps.
    pub apps: Vec<App>,
    /// The routes.
    pub routes: Vec<Route>,
}

/// An app and its load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// Name of the app.
    pub app: AppId,
    /// Routing policy.
    pub policy: PolicyName,
    /// Number of waiting jobs.
    pub queued: u64,
    /// Number of live runners.
    pub runners: u64,
    /// Expected wait of a job submitted now, s, as conditions of routes read it. Null without
    /// runners.
    #[serde(default)]
    #[schema(required)]
    pub wait_s: Option<f64>,
    /// Measured duration of a run, s.
    pub run_s: f64,
    /// Cost of a job, in the unit of the configuration.
    pub cost: f64,
}

/// A route: a name that forwards to apps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// Name of the route.
    pub route: AppId,
    /// Kind of the route.
    pub kind: RouteKind,
    /// Its targets: apps and routes; those of the steps, in order, for sequences and fallbacks.
    pub to: Vec<AppId>,
}

/// Live runners: `/v1/runners`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Runners {
    /// The runners, by app and id.
    pub runners: Vec<RunnerRecord>,
}

/// Dead letters: `/v1/dead`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetters {
    /// The letters, the oldest of each queue first.
    pub letters: Vec<DeadLetter>,
    /// Whether a queue may contain more than is listed.
    pub truncated: bool,
}

/// A dead letter without its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The job's id; the letter's own if it is not a job's.
    pub id: JobId,
    /// Path below `/v1/dead`: `owner/name`, or `_/submissions`.
    pub place: String,
    /// `job` or `submission`.
    pub kind: String,
    /// Why the job failed for good.
    pub reason: String,
    /// Time of the letter, Unix ms.
    pub since_ms: u64,
}

/// A dead letter with its body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WholeDeadLetter {
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Routing key of a submission: the app, as its submitter wrote it.
    pub routing_key: Option<String>,
    /// The body: JSON if it is valid, otherwise text.
    pub body: Value,
}

/// A job that was submitted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// Id of the job.
    pub job_id: JobId,
}

/// All API keys: `/v1/keys`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// The keys, the oldest first.
    pub keys: Vec<ApiKey>,
}

/// A new API key. Its `Debug` output omits the secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// `id:secret`, returned this once.
    pub credentials: String,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreatedKey({})", self.key.id)
    }
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
        let job: Job = serde_json::from_value(wire).unwrap();
        assert_eq!(job.record.spec.id, id);
        assert_eq!(job.queue_position, Some(3));
        assert_eq!(job.record.runner, None);
    }
}
