//! Index of the runners that hold a model, by model.

use super::event::{Avoid, Model, Runner};
use super::rng::SplitMix64;
use super::runner_set::RunnerSet;

/// The holders of one model.
#[derive(Debug, Clone, Default)]
struct Holders {
    all: RunnerSet,
    idle: RunnerSet,
}

/// The holders of each model in one tier.
#[derive(Debug, Clone, Default)]
pub struct HolderIndex(Vec<Holders>);

impl HolderIndex {
    fn of(&self, model: Model) -> Option<&Holders> {
        self.0.get(model.0 as usize)
    }

    /// Returns the number of holders.
    pub fn count(&self, model: Model) -> usize {
        self.of(model).map_or(0, |holders| holders.all.len())
    }

    /// Returns up to `count` holders, from a random index.
    pub fn sample(
        &self,
        model: Model,
        count: usize,
        rng: &mut SplitMix64,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        let holders = self.of(model);
        let sample = holders.map(|holders| holders.all.sample(count, Avoid::NONE, rng));
        sample.into_iter().flatten()
    }

    /// Returns the idle holders; `None` for a model that no runner ever held.
    pub fn idle(&self, model: Model) -> Option<&RunnerSet> {
        self.of(model).map(|holders| &holders.idle)
    }

    /// Adds or removes a holder.
    pub fn set(&mut self, model: Model, runner: Runner, held: bool, idle: bool) {
        let index = model.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Holders::default());
        }
        let holders = &mut self.0[index];
        holders.all.put(runner, held);
        holders.idle.put(runner, held && idle);
    }

    /// Updates a holder that became idle or busy.
    pub fn set_idle(&mut self, model: Model, runner: Runner, idle: bool) {
        self.0[model.0 as usize].idle.put(runner, idle);
    }
}
