//! How far a job is, and what it cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
