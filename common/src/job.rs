//! A job: what was asked ([`JobSpec`]), and everything that happened to it since ([`JobRecord`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::flow::{Flow, StepOf};
use crate::hint::Hint;
use crate::ids::{AppId, Fence, JobId, KeyId, RunnerId};
use crate::route::{Hop, RouteKind};
use crate::state::JobState;

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
    /// The app's input.
    pub input: Value,
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
            priority: Priority::Normal,
            max_warm_wait_ms: None,
            start_timeout_ms: None,
            run_timeout_ms: None,
            max_attempts: MAX_ATTEMPTS,
            input,
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
    pub fn sign(&self, output: &mut Value) {
        let chosen = (self.route.iter()).any(|hop| hop.kind == RouteKind::Split);
        if let (true, Value::Object(fields)) = (chosen, output) {
            fields.insert("model_version".to_owned(), self.app.as_str().into());
        }
    }
}

/// Where the dispatcher sent a job, and why: the routing decision, kept for `warmq explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// The policy that decided: `warm` or `fal`.
    pub policy: String,
    /// Where it went.
    pub target: Target,
    /// The chosen runner was expected to serve the job without a load; `timings` says how it turned out.
    pub warm: bool,
    /// Idle runners that reported the hint; of many, some.
    pub warm_candidates: Vec<RunnerId>,
    /// Idle runners that reported nothing yet, so took anything; of many, some.
    pub blank_candidates: Vec<RunnerId>,
    /// All idle runners of the app at that moment.
    pub idle_runners: u64,
    /// Runners that held the job's model or were loading it, the busy ones too, where the policy asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<u64>,
    /// How long the job would have to wait for a warm runner, by the estimate when it was first decided about, ms; none if
    /// nobody held its model, or none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_wait_ms: Option<u64>,
    /// How long the job was really held before it was sent, ms; 0 if it was sent at once.
    #[serde(default)]
    pub held_ms: u64,
    /// Runners that were chosen before this one, and taken by somebody else in between.
    pub refused_claims: u32,
    /// The decision in a sentence.
    pub reason: String,
}

/// That a job was held, and what was expected of it. How it turned out stands in the [`Decision`] that ended it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// When it becomes eligible for any runner, Unix ms.
    pub until_ms: u64,
    /// How long after `since_ms` a warm runner would come free, by estimate, ms; none if nobody held the model.
    #[serde(
        default,
        alias = "predicted_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub predicted_wait_ms: Option<u64>,
    /// Runners that held the job's model or were loading it.
    pub holders: u64,
    /// Idle runners, none of which held it.
    pub idle_runners: u64,
    /// The decision in a sentence.
    pub reason: String,
}

/// Where a job was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A claimed runner's own queue.
    Runner {
        /// That runner.
        runner: RunnerId,
    },
    /// The app's shared queue: whoever is free first.
    Shared,
}

/// How far a running job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What the runner is doing.
    pub phase: Phase,
    /// Steps done of `steps`; both 0 while that is unknown.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// What the picture looks like so far, as a `data:` URI of a few KB, if the job asked for previews. A report without one
    /// leaves the last one standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

impl Progress {
    /// At `step` of `steps`.
    pub fn at(phase: Phase, step: u32, steps: u32) -> Self {
        Self {
            phase,
            step,
            steps,
            preview: None,
        }
    }
}

/// What a runner does with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Getting the files that the input names.
    Fetching,
    /// Loading the model: the job is cold here.
    Loading,
    /// Denoising.
    Running,
    /// Writing artifacts.
    Storing,
}

/// What an execution cost and whether it was warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// The model was loaded already when the job came.
    pub warm: bool,
    /// Time spent loading, ms; 0 when warm.
    pub load_ms: u64,
    /// Time spent running, without loading and storing, ms.
    pub run_ms: u64,
}

/// How a job failed, in the shape that its owner sees: an HTTP status and fal's error body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// The HTTP status of the result: 4xx is the job's own fault, 5xx is ours.
    pub status: u16,
    /// fal's `error_type`, or the type of the first detail.
    pub error_type: String,
    /// One sentence.
    pub message: String,
    /// Per-field details (`[{loc, msg, type}]`), when the input is at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<FieldError>,
}

impl JobError {
    /// An error in one field of the input.
    pub fn field(loc: &[&str], error_type: &str, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError {
            loc: std::iter::once("body")
                .chain(loc.iter().copied())
                .map(Value::from)
                .collect(),
            msg: message.into(),
            error_type: error_type.to_owned(),
        }])
    }

    /// Errors in the input: status 422.
    pub fn fields(detail: Vec<FieldError>) -> Self {
        let sentences: Vec<String> = detail.iter().map(FieldError::sentence).collect();
        Self {
            status: 422,
            error_type: detail.first().map_or_else(
                || "value_error".to_owned(),
                |first| first.error_type.clone(),
            ),
            message: sentences.join("; "),
            detail,
        }
    }

    /// An error that is not the job's fault.
    pub fn internal(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            status: 500,
            error_type: error_type.to_owned(),
            message: message.into(),
            detail: Vec::new(),
        }
    }

    /// The job was given too little time, or took too much.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self {
            status: 504,
            error_type: "request_timeout".to_owned(),
            message: message.into(),
            detail: Vec::new(),
        }
    }

    /// Why a job is not tried again, after `attempts` that lost their runners: status 503.
    pub fn quarantined(attempts: u32, lost: &[RunnerId]) -> Self {
        let names: Vec<&str> = lost.iter().map(RunnerId::as_str).collect();
        let message = match names.len() {
            0 => format!("it did not end within its {attempts} attempts"),
            1 => format!("it was running when its runner was lost: {}", names[0]),
            lost => format!(
                "it was running when {lost} runners were lost: {}",
                names.join(", ")
            ),
        };
        Self {
            status: 503,
            error_type: "runner_disconnected".to_owned(),
            message,
            detail: Vec::new(),
        }
    }

    /// The body of the job's result: fal's two error shapes.
    pub fn body(&self) -> Value {
        if self.detail.is_empty() {
            serde_json::json!({"detail": self.message, "error_type": self.error_type})
        } else {
            serde_json::json!({"detail": self.detail})
        }
    }
}

/// One thing wrong with an input, as FastAPI and fal shape it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The path to the field: `["body", "width"]`.
    pub loc: Vec<Value>,
    /// What is wrong.
    pub msg: String,
    /// A stable name for it.
    #[serde(rename = "type")]
    pub error_type: String,
}

impl FieldError {
    /// `width: 7 is not a multiple of 8`.
    pub fn sentence(&self) -> String {
        let path: Vec<String> = self
            .loc
            .iter()
            .skip(1)
            .map(|part| {
                part.as_str()
                    .map_or_else(|| part.to_string(), str::to_owned)
            })
            .collect();
        if path.is_empty() {
            self.msg.clone()
        } else {
            format!("{}: {}", path.join("."), self.msg)
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
    fn a_field_error_has_fals_shape() {
        let error = JobError::field(&["width"], "multiple_of", "7 is not a multiple of 8");
        assert_eq!(error.status, 422);
        assert_eq!(error.message, "width: 7 is not a multiple of 8");
        assert_eq!(
            error.body(),
            serde_json::json!({"detail": [{"loc": ["body", "width"], "msg": "7 is not a multiple of 8", "type": "multiple_of"}]})
        );
    }

    #[test]
    fn an_output_is_signed_where_a_split_chose() {
        let name = |text: &str| AppId::parse(text).unwrap();
        let mut job = JobSpec::new(name("a/two"), Value::Null);
        let signed = |job: &JobSpec, mut output: Value| {
            job.sign(&mut output);
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

    #[test]
    fn decisions_of_earlier_versions_are_read() {
        let decision = serde_json::json!({
            "policy": "fal", "target": {"kind": "shared"}, "warm": false, "warm_candidates": [],
            "blank_candidates": [], "idle_runners": 0, "refused_claims": 0, "reason": "no runner was idle"
        });
        let decision: Decision = serde_json::from_value(decision).unwrap();
        assert_eq!((decision.held_ms, decision.predicted_wait_ms), (0, None));
        let hold = serde_json::json!({
            "since_ms": 1, "until_ms": 2, "predicted_ms": 3, "holders": 1, "idle_runners": 0, "reason": "busy"
        });
        let hold: Hold = serde_json::from_value(hold).unwrap();
        assert_eq!(hold.predicted_wait_ms, Some(3));
    }

    #[test]
    fn an_internal_error_names_its_type() {
        assert_eq!(
            JobError::internal("runner_server_error", "the engine stopped").body(),
            serde_json::json!({"detail": "the engine stopped", "error_type": "runner_server_error"})
        );
    }
}
