//! A runner's fault: why an attempt failed although its job may be sound.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::RunnerId;

/// Class of a runner's fault. Three faults of one class on different healthy runners are the job's
/// own failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The object storage refuses reads or writes.
    Storage,
    /// A model folder is missing, unreadable or damaged, or its model computes no picture.
    Model,
    /// The model exceeds the runner's memory budget.
    Budget,
    /// Out of memory, even with no other model loaded.
    Memory,
    /// The device or its driver failed.
    Device,
    /// The engine crashed.
    Engine,
    /// The model server is unreachable, or refuses jobs.
    Server,
    /// The engine no longer responds.
    Hang,
}

impl FaultKind {
    /// All classes, in the order of metrics.
    pub const ALL: [Self; 8] = [
        Self::Storage,
        Self::Model,
        Self::Budget,
        Self::Memory,
        Self::Device,
        Self::Engine,
        Self::Server,
        Self::Hang,
    ];

    /// Returns the name in metrics, logs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Model => "model",
            Self::Budget => "budget",
            Self::Memory => "memory",
            Self::Device => "device",
            Self::Engine => "engine",
            Self::Server => "server",
            Self::Hang => "hang",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fault on a runner that passed its self-test right afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerFault {
    /// The runner that failed.
    pub runner: RunnerId,
    /// Class of the fault.
    pub kind: FaultKind,
    /// The cause in one sentence, for the job's owner.
    pub message: String,
}
