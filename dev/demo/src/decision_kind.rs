//! DecisionKind a job went where it went, in a few words; the record's `reason` is the whole sentence.

use warmq_types::job::{Decision, Target};

/// The kinds of decisions, by the facts in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecisionKind {
    /// A runner with its model was idle.
    WarmAndIdle,
    /// It waited, and a runner with its model came free.
    HeldForWarm,
    /// Nobody had its model.
    FirstCopy,
    /// Somebody had its model, but was not waited for.
    FurtherCopy,
    /// It went to the queue that all runners share.
    Shared,
}

impl DecisionKind {
    /// The kind of `decision`.
    pub fn of(decision: &Decision) -> Self {
        match (&decision.target, decision.warm) {
            (Target::Shared, _) => Self::Shared,
            (Target::Runner { .. }, true) if decision.held_ms == 0 => Self::WarmAndIdle,
            (Target::Runner { .. }, true) => Self::HeldForWarm,
            (Target::Runner { .. }, false) if decision.holders.unwrap_or(0) == 0 => Self::FirstCopy,
            (Target::Runner { .. }, false) => Self::FurtherCopy,
        }
    }

    /// A few words for a table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WarmAndIdle => "had it, was idle",
            Self::HeldForWarm => "had it, came free",
            Self::FirstCopy => "nobody had it",
            Self::FurtherCopy => "one more copy",
            Self::Shared => "free first",
        }
    }
}
