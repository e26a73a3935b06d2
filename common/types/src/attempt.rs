//! An attempt at a job: its lease and its outcome.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::Fence;
use crate::job::JobError;
use crate::state::JobState;

/// The right to run a job, with the number of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Fence: identifies the results of this attempt.
    pub fence: Fence,
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Success, with the app's output.
    Succeeded(Value),
    /// Failure.
    Failed(JobError),
    /// Stopped because the job was cancelled.
    Cancelled,
}

impl Outcome {
    /// Returns the state in which the job ends.
    pub fn state(&self) -> JobState {
        match self {
            Outcome::Succeeded(_) => JobState::Succeeded,
            Outcome::Failed(_) => JobState::Failed,
            Outcome::Cancelled => JobState::Cancelled,
        }
    }
}
