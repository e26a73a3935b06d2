//! A job: what was asked ([`JobSpec`]), and everything that happened to it since ([`JobRecord`]).
//!
//! | module | what it holds |
//! | --- | --- |
//! | `decision` | why it was held, and why it went where it went |
//! | `progress` | how far it is, and what it cost |
//! | `stored_input` | an input that is too large for messages and records |
//! | `error` | how it failed |

mod decision;
mod error;
mod progress;
mod stored_input;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::flow::{Flow, StepOf};
use crate::hint::{Hint, HintSource};
use crate::ids::{AppId, Fence, JobId, KeyId, RunnerId};
use crate::route::{Hop, RouteKind};
use crate::state::JobState;
pub use decision::{Decision, Hold, Target};
pub use error::{FieldError, JobError};
pub use progress::{Phase, Progress, Timings};
pub use stored_input::{MAX_INLINE_INPUT_BYTES, StoredInput};

/// Attempts that a job has unless its app or its submitter says otherwise.
pub const MAX_ATTEMPTS: u32 = 10;

fn max_attempts() -> u32 {
    MAX_ATTEMPTS
}

/// Which lane a job waits in. `Low` runs only where no normal job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The default.
    #[default]
    Normal,
    /// Runs where no normal job waits.
    Low,
}

impl Priority {
    /// `normal` or `low`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "normal" => Some(Self::Normal),
            "low" => Some(Self::Low),
            _ => None,
        }
    }

    /// The name in headers and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// The AMQP queue that wants the job's outcome, and the submitter's own id for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplyTo {
    /// Routing key on the default exchange.
    pub queue: String,
    /// Echoed in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// What was asked: fixed at submission, carried whole by every message about the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Its id.
    pub id: JobId,
    /// The app that runs it; of a flow, the route that says its steps.
    pub app: AppId,
    /// What followed `owner/app/` in the submission's path; empty for the app's root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The key under which it was submitted: its holder may look at it. None if nobody was asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<KeyId>,
    /// What it needs, if it said so or the app derives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// Where that comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint_source: Option<HintSource>,
    /// Its lane.
    #[serde(default)]
    pub priority: Priority,
    /// How long it may be held for a warm runner, ms; 0: any runner at once. The app's own setting if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_warm_wait_ms: Option<u64>,
    /// How long after it was accepted it may start at the latest, ms, over all attempts; at any time if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// How long an attempt may take, loading included, ms; as long as it takes if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// How often it may be begun. An attempt that ends by itself, well or badly, is the last; one that loses its runner is
    /// followed by the next, as long as there is one. Then the job is quarantined.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// The app's input; null if it is stored.
    pub input: Value,
    /// Where the input is, if it is larger than [`MAX_INLINE_INPUT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub stored_input: Option<StoredInput>,
    /// When it was accepted, Unix ms.
    pub created_ms: u64,
    /// Who wants the outcome by AMQP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// Who wants the outcome by HTTP: the URL that is told. It may hold a secret of the receiver's, so no log names more than its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// How long its record is kept after it ended, s. The store's default if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_s: Option<u64>,
    /// The input is shown to nobody, and forgotten once the job ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_store: bool,
    /// How long links to its files hold after it ended, s; as long as its record is kept if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_s: Option<u64>,
    /// The routes that it went through before it came to its app, the first one first; none if it was submitted to the app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Hop>,
    /// The flow that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_of: Option<StepOf>,
}

impl JobSpec {
    /// A job with a fresh id and nothing but its input, not accepted yet.
    pub fn new(app: AppId, input: Value) -> Self {
        Self {
            id: JobId::generate(),
            app,
            path: String::new(),
            owner: None,
            hint: None,
            hint_source: None,
            priority: Priority::Normal,
            max_warm_wait_ms: None,
            start_timeout_ms: None,
            run_timeout_ms: None,
            max_attempts: MAX_ATTEMPTS,
            input,
            stored_input: None,
            created_ms: 0,
            reply_to: None,
            webhook: None,
            retention_s: None,
            no_store: false,
            links_s: None,
            route: Vec::new(),
            step_of: None,
        }
    }

    /// What it was submitted to: a route, or the app itself. Its submitter knows it by this name.
    pub fn submitted_to(&self) -> &AppId {
        match self.route.first() {
            Some(hop) => &hop.route,
            None => &self.app,
        }
    }

    /// Says in an output which app made it, as `model_version`, if a split chose that. Only an object has room for it.
    pub fn stamp_model_version(&self, output: &mut Value) {
        let chosen = (self.route.iter()).any(|hop| hop.kind == RouteKind::Split);
        if let (true, Value::Object(fields)) = (chosen, output) {
            fields.insert("model_version".to_owned(), self.app.as_str().into());
        }
    }
}

/// A job as Redis knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobRecord {
    /// What was asked.
    #[serde(flatten)]
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
    /// Executions begun.
    pub attempt: u32,
    /// The latest right to write its result.
    pub fence: Fence,
    /// When the dispatcher last sent it, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatched_ms: Option<u64>,
    /// When its last attempt began, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// The runner that has it, or had it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerId>,
    /// Runners that were lost while they ran it, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_runners: Vec<RunnerId>,
    /// That it was held for a warm runner, the last time that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Why it went where it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The steps so far, if it is a flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// How far it is, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the execution cost, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// The app's output, when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The error, when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

impl JobRecord {
    /// Why a job that ended gives no output; `None` if it succeeded, or has not ended.
    pub fn failure(&self) -> Option<JobError> {
        match self.state {
            JobState::Failed => Some(self.error.clone().unwrap_or_else(|| {
                JobError::internal("internal_error", "the job failed without a reason")
            })),
            JobState::Cancelled => Some(JobError {
                status: 499,
                error_type: "client_cancelled".to_owned(),
                message: "the job was cancelled".to_owned(),
                detail: Vec::new(),
            }),
            JobState::Expired => Some(JobError::timeout(
                "the job did not start before its deadline",
            )),
            JobState::Queued | JobState::Dispatched | JobState::Running | JobState::Succeeded => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_signed_where_a_split_chose() {
        let name = |text: &str| AppId::parse(text).unwrap();
        let mut job = JobSpec::new(name("a/two"), Value::Null);
        let signed = |job: &JobSpec, mut output: Value| {
            job.stamp_model_version(&mut output);
            output
        };
        assert_eq!(signed(&job, serde_json::json!({})), serde_json::json!({}));
        assert_eq!(job.submitted_to().as_str(), "a/two");
        job.route.push(Hop {
            route: name("a/ab"),
            kind: RouteKind::Split,
            to: name("a/two"),
            reason: String::new(),
        });
        assert_eq!(
            signed(&job, serde_json::json!({"n": 1})),
            serde_json::json!({"n": 1, "model_version": "a/two"})
        );
        assert_eq!(signed(&job, serde_json::json!([1])), serde_json::json!([1]));
        assert_eq!(job.submitted_to().as_str(), "a/ab");
    }
}
