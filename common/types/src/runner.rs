//! A live runner.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hint::Hint;
use crate::ids::{AppId, Epoch, JobId, RunnerId};

/// A live runner, as `/v1/runners` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunnerRecord {
    /// Its id.
    pub id: RunnerId,
    /// Its app.
    pub app: AppId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// The machine that it is on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// What runs its jobs.
    pub engine: String,
    /// Where tensors live.
    pub device: String,
    /// How much its models may hold, bytes.
    pub memory_budget_bytes: u64,
    /// What they hold, bytes.
    pub memory_bytes: u64,
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// How many models it can hold at once, as far as it knows.
    #[serde(default)]
    pub slots: u32,
    /// It waits for a job.
    pub idle: bool,
    /// The job that it runs or was claimed for.
    pub job: Option<JobId>,
    /// When it joined, Unix ms.
    pub since_ms: u64,
    /// When it counts as lost unless heard of, Unix ms.
    pub lease_until_ms: u64,
    /// Why it takes no jobs until its self-test passes; absent while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// When that fault began, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_since_ms: Option<u64>,
}
