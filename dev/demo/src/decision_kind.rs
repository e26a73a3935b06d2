//! Kinds of decisions, in a few words for the table; the record's `reason` is the whole sentence.

use warmq_types::job::{Decision, Target};

/// The kind of a decision, derived from the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecisionKind {
    /// A runner with its model was idle.
    WarmAndIdle,
    /// The job was held until a runner with its model came free.
    HeldForWarm,
    /// No runner had its model.
    FirstCopy,
    /// A runner had its model, but waiting for it would have cost more.
    FurtherCopy,
    /// The job was sent to the shared queue.
    Shared,
}

impl DecisionKind {
    /// Returns the kind of `decision`.
    pub fn of(decision: &Decision) -> Self {
        match (&decision.target, decision.warm) {
            (Target::Shared, _) => Self::Shared,
            (Target::Runner { .. }, true) if decision.held_ms == 0 => Self::WarmAndIdle,
            (Target::Runner { .. }, true) => Self::HeldForWarm,
            (Target::Runner { .. }, false) if decision.holders.unwrap_or(0) == 0 => Self::FirstCopy,
            (Target::Runner { .. }, false) => Self::FurtherCopy,
        }
    }

    /// Returns the text for the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WarmAndIdle => "had it, was idle",
            Self::HeldForWarm => "had it, came free",
            Self::FirstCopy => "no runner had it",
            Self::FurtherCopy => "one more copy",
            Self::Shared => "shared queue",
        }
    }
}
