//! Recorded holds and decisions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::RunnerId;
use crate::tier::Tier;
use crate::unknown::known_or_default;

/// The routing decision of a job: its target and the reasons, kept for `warmq explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// The policy that decided: `warm` or `fal`.
    pub policy: String,
    /// Target of the placement.
    pub target: Target,
    /// Whether a run without a load was expected; `timings` has the actual outcome.
    pub warm: bool,
    /// Where the target had the model, by its last report; absent for the shared queue.
    #[serde(
        default,
        deserialize_with = "known_or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub tier: Option<Tier>,
    /// Idle runners that reported the hint; truncated if there were many.
    pub warm_candidates: Vec<RunnerId>,
    /// Idle runners that reported no models yet, so could load any; truncated if there were many.
    pub blank_candidates: Vec<RunnerId>,
    /// Number of idle runners of the app at that moment.
    pub idle_runners: u64,
    /// Number of runners that held or were loading the job's model, busy ones included, if the
    /// policy reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<u64>,
    /// Predicted wait for a warm runner at the first decision, ms; absent if no runner held the
    /// model, or the policy predicts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_wait_ms: Option<u64>,
    /// Actual duration of the hold, ms; 0 if the job was sent at once.
    #[serde(default)]
    pub held_ms: u64,
    /// Number of earlier claims for this job that failed because another job had taken the runner.
    pub refused_claims: u32,
    /// The decision in a sentence.
    pub reason: String,
}

/// A hold and its prediction; the [`Decision`] that ended it has the actual duration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Begin of the hold, Unix ms.
    pub since_ms: u64,
    /// Time from which any idle runner may take the job, Unix ms.
    pub until_ms: u64,
    /// Whether `until_ms` is the job's own bound (`X-Max-Warm-Wait`, the app's `max_warm_wait`,
    /// half of its time to start): from then on the job also precedes jobs for which a freed runner
    /// is warm. Always false for priority `low`, which waits for normal jobs.
    #[serde(default)]
    pub bounded: bool,
    /// Predicted wait for a warm runner from `since_ms` on, ms; absent if no runner held the model.
    #[serde(
        default,
        alias = "predicted_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub predicted_wait_ms: Option<u64>,
    /// Number of runners that held or were loading the job's model.
    pub holders: u64,
    /// Number of idle runners, none of which held it.
    pub idle_runners: u64,
    /// The hold in a sentence.
    pub reason: String,
}

/// Target of a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A claimed runner's own queue.
    Runner {
        /// The runner.
        runner: RunnerId,
    },
    /// The app's shared queue.
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
