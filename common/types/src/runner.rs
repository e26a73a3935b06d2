//! A live runner.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::hint::Hint;
use crate::ids::{AppId, Epoch, JobId, RunnerId};
use crate::unknown::retain_known;

/// A live runner, as `/v1/runners` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunnerRecord {
    /// Runner id, unique among live runners.
    pub id: RunnerId,
    /// The app whose jobs it runs.
    pub app: AppId,
    /// Epoch of its incarnation.
    pub epoch: Epoch,
    /// Host name of its machine.
    pub host: String,
    /// Process id on that machine.
    pub pid: u32,
    /// Name of its engine.
    pub engine: String,
    /// Device of its tensors.
    pub device: String,
    /// Memory budget for loaded models, bytes.
    pub memory_budget_bytes: u64,
    /// Memory of the loaded models, bytes.
    pub memory_bytes: u64,
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// Number of models that it can hold at once: the loaded ones, then the largest others.
    #[serde(default)]
    pub slots: u32,
    /// Budget of host memory for evicted models, bytes; 0: they are dropped.
    #[serde(default)]
    pub ram_budget_bytes: u64,
    /// Host memory of evicted models, bytes.
    #[serde(default)]
    pub ram_bytes: u64,
    /// Models in host memory, least recently used first; none of them is in `hints`.
    #[serde(default)]
    pub ram_hints: Vec<Hint>,
    /// Models that are never evicted.
    #[serde(default)]
    pub pinned: Vec<Hint>,
    /// Whether it waits for a job.
    pub idle: bool,
    /// The job that it runs or was claimed for.
    pub job: Option<JobId>,
    /// Whether it drains: it takes no further job, and leaves after the one that it has.
    #[serde(default)]
    pub draining: bool,
    /// Time of registration, Unix ms.
    pub since_ms: u64,
    /// End of its lease without another heartbeat, Unix ms.
    pub lease_until_ms: u64,
    /// Why it takes no jobs until its self-test passes; absent while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Begin of that fault, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_since_ms: Option<u64>,
}

/// Changes of the models that a runner has in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelChange {
    /// Models to load.
    pub load: Vec<Hint>,
    /// Models to drop from the device and from host memory.
    pub unload: Vec<Hint>,
    /// Models to load, and to evict no more.
    pub pin: Vec<Hint>,
    /// Models that may be evicted again.
    pub unpin: Vec<Hint>,
}

impl ModelChange {
    /// Parses a queued change, without what a newer build adds; in requests that is refused.
    ///
    /// # Errors
    /// The text is not a change.
    pub fn from_queue(text: &str) -> serde_json::Result<Self> {
        let mut change: Value = serde_json::from_str(text)?;
        retain_known(&mut change, &Self::default().fields().map(|(name, _)| name));
        serde_json::from_value(change)
    }

    /// Returns all models that it names, with their fields.
    pub fn fields(&self) -> [(&'static str, &[Hint]); 4] {
        [
            ("load", &self.load),
            ("unload", &self.unload),
            ("pin", &self.pin),
            ("unpin", &self.unpin),
        ]
    }

    /// Returns all models that it names.
    pub fn models(&self) -> impl Iterator<Item = &Hint> {
        self.fields().into_iter().flat_map(|(_, models)| models)
    }
}
