//! The runners' catalogs: which runner can load which models.

use rustc_hash::{FxHashMap, FxHashSet};

use super::event::{Model, Runner};

/// The catalogs of all live runners.
#[derive(Debug, Clone, Default)]
pub struct Catalogs {
    /// By runner: its models in ascending order; `None` for a runner that can load any, or is gone.
    of_runners: Vec<Option<Box<[Model]>>>,
    /// Number of live runners that list a model, by model.
    listed: FxHashMap<Model, usize>,
    /// Number of live runners with a list.
    limited: usize,
    /// Live runners that can load any model.
    unlimited: FxHashSet<Runner>,
    /// Models that a runner listed, now or earlier.
    known: FxHashSet<Model>,
}

impl Catalogs {
    /// Sets a runner's catalog; `None` for any model.
    pub fn set(&mut self, runner: Runner, models: Option<Vec<Model>>) {
        self.remove(runner);
        let Some(mut models) = models else {
            self.unlimited.insert(runner);
            return;
        };
        models.sort_unstable();
        models.dedup();
        for &model in &models {
            *self.listed.entry(model).or_default() += 1;
            self.known.insert(model);
        }
        let index = runner.0 as usize;
        if index >= self.of_runners.len() {
            self.of_runners.resize(index + 1, None);
        }
        self.of_runners[index] = Some(models.into());
        self.limited += 1;
    }

    /// Removes a runner. Its models stay known.
    pub fn remove(&mut self, runner: Runner) {
        self.unlimited.remove(&runner);
        let models = self.of_runners.get_mut(runner.0 as usize);
        let Some(models) = models.and_then(Option::take) else {
            return;
        };
        self.limited -= 1;
        for model in models {
            if let Some(count) = self.listed.get_mut(&model) {
                *count -= 1;
                if *count == 0 {
                    self.listed.remove(&model);
                }
            }
        }
    }

    /// Registers a model that a runner listed before this policy began.
    pub fn add_known(&mut self, model: Model) {
        self.known.insert(model);
    }

    /// Returns whether a model was ever listed: its jobs then wait for a runner that lists it. A
    /// model that was never listed may go to any runner, whose engine reports it as unknown.
    pub fn is_known(&self, model: Model) -> bool {
        self.known.contains(&model)
    }

    /// Returns whether the runner may be sent a job that needs the model.
    pub fn may_run(&self, runner: Runner, model: Option<Model>) -> bool {
        let catalog = self.of_runners.get(runner.0 as usize);
        match (model, catalog) {
            (Some(model), Some(Some(models))) => {
                models.binary_search(&model).is_ok() || !self.is_known(model)
            }
            _ => true,
        }
    }

    /// Returns how many of `live` runners may be sent a job that needs the model.
    pub fn count_eligible(&self, live: usize, model: Option<Model>) -> usize {
        match model {
            Some(model) if self.is_known(model) => {
                let listed = self.listed.get(&model).copied().unwrap_or_default();
                live.saturating_sub(self.limited) + listed
            }
            _ => live,
        }
    }

    /// Returns whether every runner may be sent every job.
    pub fn are_unlimited(&self) -> bool {
        self.limited == 0
    }

    /// Returns whether a live runner may be sent a job that needs the model.
    pub fn is_served(&self, model: Model) -> bool {
        self.limited == 0
            || !self.unlimited.is_empty()
            || self.listed.contains_key(&model)
            || !self.is_known(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Model = Model(7);
    const B: Model = Model(2);
    const UNKNOWN: Model = Model(9);

    #[test]
    fn a_runner_may_run_what_it_lists_and_what_no_runner_ever_listed() {
        let mut catalogs = Catalogs::default();
        catalogs.set(Runner(0), Some(vec![A, B, A]));
        catalogs.set(Runner(1), Some(vec![B]));
        assert!(catalogs.may_run(Runner(0), Some(A)));
        assert!(!catalogs.may_run(Runner(1), Some(A)));
        assert!(catalogs.may_run(Runner(1), Some(UNKNOWN)));
        assert!(catalogs.may_run(Runner(1), None));
        // A runner without a list takes any model.
        assert!(catalogs.may_run(Runner(2), Some(A)));
    }

    #[test]
    fn a_model_whose_runners_are_gone_is_known_but_not_served() {
        let mut catalogs = Catalogs::default();
        catalogs.set(Runner(0), Some(vec![A]));
        catalogs.set(Runner(1), Some(vec![B]));
        catalogs.remove(Runner(0));
        assert!(!catalogs.is_served(A));
        assert!(catalogs.is_served(B) && catalogs.is_served(UNKNOWN));
        assert!(!catalogs.may_run(Runner(1), Some(A)));
        // The number of a removed runner is reused.
        catalogs.set(Runner(0), None);
        assert!(catalogs.is_served(A) && catalogs.may_run(Runner(0), Some(A)));
        catalogs.add_known(UNKNOWN);
        assert!(!catalogs.may_run(Runner(1), Some(UNKNOWN)));
    }
}
