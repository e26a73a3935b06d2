//! Names of the routing policies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Policy of an app's dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// Holds a job for a runner that has its model, for a bounded time; copies a model where that
    /// pays.
    #[default]
    Warm,
    /// fal's documented rule: an idle runner that reports the hint, otherwise an idle one that
    /// reports nothing, otherwise any.
    Fal,
}

impl FromStr for PolicyName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "warm" => Ok(Self::Warm),
            "fal" => Ok(Self::Fal),
            other => Err(format!("unknown policy '{other}'; known: warm, fal")),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warm => "warm",
            Self::Fal => "fal",
        })
    }
}
