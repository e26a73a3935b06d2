//! Progress and timings of a job.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::tier::Tier;

/// Progress of a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Current phase.
    pub phase: Phase,
    /// Completed steps of `steps`; both 0 while unknown. Of a load, its part.
    pub step: u32,
    /// Total number of steps.
    pub steps: u32,
    /// Preview of the picture, as a `data:` URI of a few KB, if the job asked for previews. A
    /// report without one keeps the previous preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

impl Progress {
    /// Returns the progress of `step` of `steps`.
    pub fn at(phase: Phase, step: u32, steps: u32) -> Self {
        Self {
            phase,
            step,
            steps,
            preview: None,
        }
    }
}

/// Phase of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching the files that the input names.
    Fetching,
    /// Loading the model: the run is cold.
    Loading,
    /// Denoising.
    Running,
    /// Storing files.
    Storing,
}

/// Timings of a run, and whether it was warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Whether the model was loaded before the job.
    pub warm: bool,
    /// Duration of the load, ms; 0 when warm.
    pub load_ms: u64,
    /// Whether the load moved the model from host memory instead of reading its files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_ram: bool,
    /// Duration of the run without loading and storing, ms.
    pub run_ms: u64,
}

impl Timings {
    /// Returns where the model was before the job.
    pub fn tier(&self) -> Tier {
        match (self.warm, self.from_ram) {
            (true, _) => Tier::Device,
            (false, true) => Tier::Ram,
            (false, false) => Tier::Disk,
        }
    }
}
