//! How a submission came from the name that it was submitted to, to the app that runs it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::AppId;

/// How a route chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// By conditions.
    Switch,
    /// By shares.
    Split,
    /// Step by step, each with what came of those before.
    Sequence,
    /// One after the other, until one succeeds.
    Fallback,
}

impl RouteKind {
    /// The name in `warmq.toml` and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Split => "split",
            Self::Sequence => "sequence",
            Self::Fallback => "fallback",
        }
    }
}

/// A route that a submission went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hop {
    /// The route.
    pub route: AppId,
    /// How it chose.
    pub kind: RouteKind,
    /// Where it sent the submission: an app, or the route of the next hop.
    pub to: AppId,
    /// Why, as a sentence without its full stop. It quotes the declaration, never the input.
    pub reason: String,
}
