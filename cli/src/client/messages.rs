//! Requests and responses.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Priority;

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

/// An HTTP status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// 200 when the job succeeded.
    pub status: u16,
    /// The output, or the error.
    pub body: Value,
}
