//! Why a job was held, and why it went where it went.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::RunnerId;

/// Where the dispatcher sent a job, and why: the routing decision, kept for `warmq explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// The policy that decided: `warm` or `fal`.
    pub policy: String,
    /// Where it went.
    pub target: Target,
    /// The chosen runner was expected to serve the job without a load; `timings` says how it turned out.
    pub warm: bool,
    /// Idle runners that reported the hint; of many, some.
    pub warm_candidates: Vec<RunnerId>,
    /// Idle runners that reported nothing yet, so took anything; of many, some.
    pub blank_candidates: Vec<RunnerId>,
    /// All idle runners of the app at that moment.
    pub idle_runners: u64,
    /// Runners that held the job's model or were loading it, the busy ones too, where the policy asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<u64>,
    /// How long the job would have to wait for a warm runner, by the estimate when it was first decided about, ms; none if
    /// nobody held its model, or none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_wait_ms: Option<u64>,
    /// How long the job was really held before it was sent, ms; 0 if it was sent at once.
    #[serde(default)]
    pub held_ms: u64,
    /// Runners that were chosen before this one, and taken by somebody else in between.
    pub refused_claims: u32,
    /// The decision in a sentence.
    pub reason: String,
}

/// That a job was held, and what was expected of it. How it turned out stands in the [`Decision`] that ended it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Since when, Unix ms.
    pub since_ms: u64,
    /// When it becomes eligible for any idle runner, Unix ms.
    pub until_ms: u64,
    /// `until_ms` is the job's own bound (`X-Max-Warm-Wait`, the app's `max_warm_wait`, half of its time to start): from
    /// then on it also precedes what a busy runner is warm for, once that comes free. Always false for a job of
    /// priority `low`, which waits for normal ones.
    #[serde(default)]
    pub bounded: bool,
    /// How long after `since_ms` a warm runner would come free, by estimate, ms; none if nobody held the model.
    #[serde(
        default,
        alias = "predicted_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub predicted_wait_ms: Option<u64>,
    /// Runners that held the job's model or were loading it.
    pub holders: u64,
    /// Idle runners, none of which held it.
    pub idle_runners: u64,
    /// The decision in a sentence.
    pub reason: String,
}

/// Where a job was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A claimed runner's own queue.
    Runner {
        /// That runner.
        runner: RunnerId,
    },
    /// The app's shared queue: whoever is free first.
    Shared,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_of_earlier_versions_are_read() {
        let decision = serde_json::json!({
            "policy": "fal", "target": {"kind": "shared"}, "warm": false, "warm_candidates": [],
            "blank_candidates": [], "idle_runners": 0, "refused_claims": 0, "reason": "no runner was idle"
        });
        let decision: Decision = serde_json::from_value(decision).unwrap();
        assert_eq!((decision.held_ms, decision.predicted_wait_ms), (0, None));
        let hold = serde_json::json!({
            "since_ms": 1, "until_ms": 2, "predicted_ms": 3, "holders": 1, "idle_runners": 0, "reason": "busy"
        });
        let hold: Hold = serde_json::from_value(hold).unwrap();
        assert_eq!(hold.predicted_wait_ms, Some(3));
    }
}
