//! An attempt at a job: the right to it, and its outcome.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::Fence;
use crate::job::JobError;
use crate::state::JobState;

/// A right to run a job, and which attempt it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// 1 for the first.
    pub attempt: u32,
    /// Proves that a result is this attempt's.
    pub fence: Fence,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With the app's output.
    Succeeded(Value),
    /// With an error.
    Failed(JobError),
    /// Told to stop, it stopped.
    Cancelled,
}

impl Outcome {
    /// The state that the job ends in.
    pub fn state(&self) -> JobState {
        match self {
            Outcome::Succeeded(_) => JobState::Succeeded,
            Outcome::Failed(_) => JobState::Failed,
            Outcome::Cancelled => JobState::Cancelled,
        }
    }
}
