//! The way of a submission from the name that it was sent to, to the app that runs it.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::AppId;

/// Kind of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// The first rule whose condition holds.
    Switch,
    /// By weight.
    Split,
    /// One step after the other, each with the outputs of the previous ones.
    Sequence,
    /// One target after the other, until one succeeds.
    Fallback,
}

impl RouteKind {
    /// Returns the name in `warmq.toml` and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Split => "split",
            Self::Sequence => "sequence",
            Self::Fallback => "fallback",
        }
    }
}

/// A route that a submission passed through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hop {
    /// Name of the route.
    pub route: AppId,
    /// Kind of the route; `switch` instead of one of a newer build, since any kind forwards.
    #[serde(deserialize_with = "known_or_switch")]
    pub kind: RouteKind,
    /// Target of the submission: an app, or the route of the next hop.
    pub to: AppId,
    /// Reason as a sentence without a full stop. It quotes the declaration, never the input.
    pub reason: String,
}

fn known_or_switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RouteKind, D::Error> {
    let kind = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(kind).unwrap_or(RouteKind::Switch))
}
