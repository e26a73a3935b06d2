//! What the engines with a model cache share: changes of its models, and their report.

use std::ops::ControlFlow;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_store::RunnerReport;
use warmq_types::hint::Hint;
use warmq_types::job::Progress;
use warmq_types::runner::ModelChange;
use warmq_types::tier::Tier;

use super::{RefusedChange, RunContext};
use crate::model_cache::{Loader, ModelCache};

/// The context of a load that no job needs: no progress, no cancellation.
pub(super) struct WithoutJob;

impl RunContext for WithoutJob {
    fn file(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn event(&mut self, _: Value) {}

    fn cancelled(&self) -> bool {
        false
    }

    fn cancellation(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// Applies a change to a cache. `load` loads a model for it.
pub(super) fn change_models<L: Loader>(
    cache: &mut ModelCache<L>,
    change: &ModelChange,
    mut load: impl FnMut(&mut ModelCache<L>, &str) -> Result<(), String>,
) -> Vec<RefusedChange> {
    let mut refused = Vec::new();
    let mut refuse = |model: &Hint, reason: String| {
        refused.push(RefusedChange {
            model: model.to_string(),
            reason,
        });
    };
    for model in &change.unpin {
        cache.unpin(model.as_str());
    }
    for model in &change.unload {
        let is_pinned = cache.pinned().any(|pinned| pinned == model.as_str());
        match is_pinned {
            true => refuse(model, "it is pinned: unpin it first".to_owned()),
            false => cache.unload(model.as_str()),
        }
    }
    for (model, is_pinned) in (change.pin.iter().map(|model| (model, true)))
        .chain(change.load.iter().map(|model| (model, false)))
    {
        match load(cache, model.as_str()) {
            Ok(()) if is_pinned => cache.pin(model.as_str()),
            Ok(()) => {}
            Err(reason) => refuse(model, reason),
        }
    }
    refused
}

/// Describes the models in a cache. `catalog`: names and sizes of the models that it can load.
pub(super) fn report<L: Loader>(cache: &ModelCache<L>, catalog: &[(String, u64)]) -> RunnerReport {
    let hints = |names: Vec<&str>| -> Vec<Hint> {
        let hints = names.into_iter().map(Hint::parse);
        hints.filter_map(Result::ok).collect()
    };
    let outside = |tier: Tier| {
        let outside = catalog
            .iter()
            .filter(move |(name, _)| cache.tier(name) != tier);
        outside.map(|(_, bytes)| *bytes)
    };
    RunnerReport {
        hints: hints(cache.names()),
        memory_bytes: cache.bytes(),
        slots: cache.slots(outside(Tier::Device)),
        ram_hints: hints(cache.ram_names()),
        ram_bytes: cache.ram_bytes(),
        ram_slots: cache.ram_slots(outside(Tier::Ram)),
        pinned: hints(cache.pinned().collect()),
    }
}
