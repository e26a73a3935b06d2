//! The states of a job and the transitions between them, as a pure function.
//!
//! ```text
//! queued ──dispatch──> dispatched ──start──> running ──succeed──> succeeded
//!   ^  │                 │   ^                  │ │ └───fail─────> failed
//!   │  └──start──────────┼───┼──────────────────┘ └───cancel────> cancelled
//!   └──requeue, loss─────┴───┴── dispatch again       expire────> expired
//!
//! failed ──redrive──> queued: quarantined jobs only.
//! ```
//! The Lua scripts in `common/store/src/lua` enforce the same table;
//! `tests/it/scripts_follow_the_state_machine/mod.rs` compares both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, not placed yet.
    Queued,
    /// Published to a runner's own queue or to the shared queue.
    Dispatched,
    /// A runner holds its lease.
    Running,
    /// Ended with an output.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Cancelled by its owner.
    Cancelled,
    /// Expired: its deadline passed before it started.
    Expired,
}

/// Transition of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The dispatcher publishes it to a runner, again if the runner did not accept it in time.
    Dispatch,
    /// A runner takes its lease.
    Start,
    /// Its runner is lost or requeues it.
    Requeue,
    /// Its runner stores the output.
    Succeed,
    /// Its runner stores an error, or the dispatcher quarantines it.
    Fail,
    /// Its owner cancels it.
    Cancel,
    /// Its deadline passes.
    Expire,
    /// A quarantined job is submitted again.
    Redrive,
}

/// A transition that the table does not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {from} job cannot {attempted:?}")]
pub struct IllegalTransition {
    /// The state before.
    pub from: JobState,
    /// The attempted transition.
    pub attempted: Transition,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [JobState; 7] = [
        JobState::Queued,
        JobState::Dispatched,
        JobState::Running,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
        JobState::Expired,
    ];

    /// Returns the state after `made`.
    pub fn after(self, made: Transition) -> Result<JobState, IllegalTransition> {
        use JobState::*;
        match (self, made) {
            (Queued | Dispatched, Transition::Dispatch) => Ok(Dispatched),
            // The shared queue delivers without a claim, so a queued job may start as well.
            (Queued | Dispatched, Transition::Start) => Ok(Running),
            (Dispatched | Running, Transition::Requeue) => Ok(Queued),
            (Running, Transition::Succeed) => Ok(Succeeded),
            (Queued | Dispatched | Running, Transition::Fail) => Ok(Failed),
            (Queued | Dispatched | Running, Transition::Cancel) => Ok(Cancelled),
            (Queued | Dispatched, Transition::Expire) => Ok(Expired),
            (Failed, Transition::Redrive) => Ok(Queued),
            _ => Err(IllegalTransition {
                from: self,
                attempted: made,
            }),
        }
    }

    /// Returns whether the state is final, except for a redrive.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Expired
        )
    }

    /// Returns whether no runner has started the job.
    pub fn is_waiting(self) -> bool {
        matches!(self, JobState::Queued | JobState::Dispatched)
    }

    /// Returns the name in records, messages and responses.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Dispatched => "dispatched",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Expired => "expired",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a job state")]
pub struct UnknownState(String);

impl FromStr for JobState {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRANSITIONS: [Transition; 8] = [
        Transition::Dispatch,
        Transition::Start,
        Transition::Requeue,
        Transition::Succeed,
        Transition::Fail,
        Transition::Cancel,
        Transition::Expire,
        Transition::Redrive,
    ];

    proptest! {
        #[test]
        fn only_a_redrive_leaves_a_terminal_state(moves in prop::collection::vec(0..TRANSITIONS.len(), 0..40)) {
            let mut state = JobState::Queued;
            for index in moves {
                match state.after(TRANSITIONS[index]) {
                    Ok(next) => {
                        prop_assert!(!state.is_terminal() || TRANSITIONS[index] == Transition::Redrive);
                        state = next;
                    }
                    Err(error) => prop_assert_eq!(error.from, state),
                }
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse::<JobState>(), Ok(state));
        }
    }
}
