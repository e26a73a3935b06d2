//! Where a runner has a model.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The memory that a runner has a model in, the fastest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// On the device: a run needs no load.
    Device,
    /// In host memory: a load moves it to the device.
    Ram,
    /// In files only: a load reads them.
    Disk,
}
