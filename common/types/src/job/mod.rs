//! Jobs: the submission ([`JobSpec`]) and its history ([`JobRecord`]).
//!
//! | module | contents |
//! | --- | --- |
//! | `decision` | holds and placements, with their reasons |
//! | `progress` | progress and timings |
//! | `stored_input` | references to inputs in the object storage |
//! | `error` | errors |
//! | `summary` | a job in a list |

mod decision;
mod error;
mod progress;
mod stored_input;
mod summary;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::flow::{Flow, StepOf};
use crate::hint::{Hint, HintSource};
use crate::ids::{AppId, Fence, JobId, KeyId, RunnerId};
use crate::route::{Hop, RouteKind};
use crate::state::JobState;
use crate::traceparent::Traceparent;
use crate::unknown::{UnknownFields, known_or_default};
pub use decision::{Decision, Hold, Target};
pub use error::{FieldError, JobError};
pub use progress::{Phase, Progress, Timings};
pub use stored_input::{MAX_INLINE_INPUT_BYTES, StoredInput};
pub use summary::{FlowSummary, JobSummary};

/// Default number of attempts.
pub const MAX_ATTEMPTS: u32 = 10;

fn max_attempts() -> u32 {
    MAX_ATTEMPTS
}

/// Lane of a job. A `Low` job runs where no normal job waits.
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
    /// Parses `normal` or `low`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "normal" => Some(Self::Normal),
            "low" => Some(Self::Low),
            _ => None,
        }
    }

    /// Returns the name in headers and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// The AMQP queue that receives the job's outcome, and the submitter's correlation id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplyTo {
    /// Routing key on the default exchange.
    pub queue: String,
    /// Copied into the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// What was submitted: fixed at submission, and carried by every message about the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Identifier of the job.
    pub id: JobId,
    /// The app that runs it; for a flow, the route that declares its steps.
    pub app: AppId,
    /// Path below `owner/app/` in the submission; empty for the app's root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The key that submitted it, whose holder may read it; absent for anonymous submissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<KeyId>,
    /// Model that it needs, if given or derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// Source of the hint.
    #[serde(
        default,
        deserialize_with = "known_or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub hint_source: Option<HintSource>,
    /// Its lane.
    #[serde(default, deserialize_with = "known_or_default")]
    pub priority: Priority,
    /// Maximum hold for a warm runner, ms; 0: any runner at once. Absent: the app's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_warm_wait_ms: Option<u64>,
    /// Maximum time from acceptance to the start, ms, over all attempts; absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// Maximum duration of an attempt, loading included, ms; absent: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// Maximum number of attempts. An attempt that ends by itself is the last; one that loses its
    /// runner is followed by the next, if any is left, otherwise the job is quarantined.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// The app's input; null if it is stored as an object.
    pub input: Value,
    /// Reference to the input, if it exceeds [`MAX_INLINE_INPUT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub stored_input: Option<StoredInput>,
    /// Time of acceptance, Unix ms.
    pub created_ms: u64,
    /// Receiver of the outcome by AMQP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// Webhook URL. It may contain a secret of the receiver's, so logs name its host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Retention of the record after the end, s; absent: the store's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_s: Option<u64>,
    /// Whether the input is hidden and deleted after the end (`X-Fal-Store-IO: 0`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_store: bool,
    /// Lifetime of the URLs of its files after the end, s; absent: that of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_s: Option<u64>,
    /// Routes between the submission and the app, in order; empty if the app was named directly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Hop>,
    /// The flow that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_of: Option<StepOf>,
    /// Position of its submission in a trace, which its later spans continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trace: Option<Traceparent>,
    /// Fields of a newer build, carried.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: UnknownFields,
}

impl JobSpec {
    /// Returns a job with a new id and defaults, not accepted yet.
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
            trace: None,
            unknown: UnknownFields::new(),
        }
    }

    /// Returns the name that it was submitted to: a route, or the app itself.
    pub fn submitted_to(&self) -> &AppId {
        match self.route.first() {
            Some(hop) => &hop.route,
            None => &self.app,
        }
    }

    /// Adds the app that made an output to it, as `model_version`, if a split chose the app.
    /// Outputs other than objects stay unchanged.
    pub fn stamp_model_version(&self, output: &mut Value) {
        let chosen = (self.route.iter()).any(|hop| hop.kind == RouteKind::Split);
        if let (true, Value::Object(fields)) = (chosen, output) {
            fields.insert("model_version".to_owned(), self.app.as_str().into());
        }
    }
}

/// A job as stored in Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobRecord {
    /// What was submitted.
    #[serde(flatten)]
    pub spec: JobSpec,
    /// Current state.
    pub state: JobState,
    /// Number of attempts that began.
    pub attempt: u32,
    /// Fence of the latest attempt: the right to store the result.
    pub fence: Fence,
    /// Time of the latest placement, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatched_ms: Option<u64>,
    /// Begin of the latest attempt, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Time of the end, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// The runner that has it, or had it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerId>,
    /// Runners that were lost during an attempt, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_runners: Vec<RunnerId>,
    /// The most recent hold for a warm runner, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The most recent placement.
    #[serde(
        default,
        deserialize_with = "known_or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub decision: Option<Decision>,
    /// Its steps, for a flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Progress while it runs.
    #[serde(
        default,
        deserialize_with = "known_or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub progress: Option<Progress>,
    /// Timings of the run, after its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// The app's output, after success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The error, after failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

impl JobRecord {
    /// Returns why an ended job has no output; `None` if it succeeded or has not ended.
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
