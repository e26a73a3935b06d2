//! How an app is scaled.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the leader of an app with `max` decides and observes now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ScalingState {
    /// Wanted number of runners.
    pub wanted: u64,
    /// Error of the last call of `--scale-hook`; absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_error: Option<String>,
}
