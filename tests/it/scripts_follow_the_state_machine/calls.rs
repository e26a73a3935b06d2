//! Sequences of script calls.

use proptest::prelude::*;
use warmq_store::{RequeueCause, StartSource};
use warmq_types::state::Transition;

/// A call of a script. `ours`: with the fence of the latest attempt, else with another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Create,
    Withdraw,
    Hold,
    Claim(usize),
    Share,
    Start {
        runner: usize,
        ground: StartSource,
    },
    Renew {
        ours: bool,
    },
    /// The lease lapses without renewal.
    Lapse,
    Finish {
        ours: bool,
        made: Transition,
    },
    Requeue {
        ours: bool,
        attempt: RequeueCause<'static>,
    },
    Lose,
    /// The pause before the next attempt passes.
    Unpark,
    Cancel,
    /// The start deadline passes.
    Expire,
    Quarantine,
    Redrive,
    /// The retention ends.
    Forget,
    /// Redis loses the record.
    LoseRecord,
}

pub(super) fn calls() -> impl Strategy<Value = Vec<Call>> {
    // The latest attempt calls more often than an older one.
    let ours = || prop::bool::weighted(0.75);
    let runner = || 0..3_usize;
    let end = prop::sample::select(vec![
        Transition::Succeed,
        Transition::Fail,
        Transition::Cancel,
    ]);
    let ground = prop::sample::select(vec![
        StartSource::Claim,
        StartSource::SharedQueue,
        StartSource::StartedDuringOutage { ago_ms: 1000 },
    ]);
    let given_back = prop::sample::select(vec![
        RequeueCause::Uncounted,
        RequeueCause::Counted {
            reason: "too long",
            fault: None,
        },
    ]);
    let call = prop_oneof![
        2 => Just(Call::Create),
        1 => Just(Call::Withdraw),
        1 => Just(Call::Hold),
        3 => runner().prop_map(Call::Claim),
        2 => Just(Call::Share),
        6 => (runner(), ground).prop_map(|(runner, ground)| Call::Start { runner, ground }),
        2 => ours().prop_map(|ours| Call::Renew { ours }),
        4 => Just(Call::Lapse),
        1 => (ours(), end).prop_map(|(ours, made)| Call::Finish { ours, made }),
        1 => (ours(), given_back).prop_map(|(ours, attempt)| Call::Requeue { ours, attempt }),
        4 => Just(Call::Lose),
        4 => Just(Call::Unpark),
        1 => Just(Call::Cancel),
        1 => Just(Call::Expire),
        3 => Just(Call::Quarantine),
        2 => Just(Call::Redrive),
        2 => Just(Call::Forget),
        1 => Just(Call::LoseRecord),
    ];
    prop::collection::vec(call, 1..60)
}
