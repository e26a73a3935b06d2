//! The cost of a runner's next eviction, and the bar that a wait must exceed before another copy is
//! worth its load.

use super::View;
use super::event::{Model, Runner};
use super::rng::SplitMix64;

/// A runner's bar for loading a model: independent of the job.
#[derive(Debug, Clone, Copy)]
pub struct LoadBar {
    /// A model is hot here if a further copy would earn more than this, jobs/s.
    hot_above: f64,
    /// The bar for a hot model, in units of L.
    least_bar: f64,
}

impl View<'_> {
    /// lam(m)/n, jobs/s: the value of one of n copies of a model.
    fn earns(&self, model: Model, copies: usize) -> f64 {
        self.estimates.rate(model, self.now_s) / copies.max(1) as f64
    }

    /// cost(r), jobs/s: lam(v)/n(v) of r's least recently used model v; 0 if r has room.
    pub fn eviction_cost(&self, runner: Runner) -> f64 {
        match self.fleet.get(runner).victim() {
            None => 0.0,
            Some(victim) => self.earns(victim, self.fleet.copies(victim)),
        }
    }

    /// Returns the bar for loading a model on a runner.
    pub fn load_bar(&self, runner: Runner) -> LoadBar {
        let constants = self.constants;
        let bar = match self.fleet.get(runner).victim() {
            None => constants.room_bar,
            Some(victim) if self.fleet.copies(victim) >= 2 => constants.steering_bar,
            Some(_) => constants.theta,
        };
        LoadBar {
            hot_above: (1.0 + constants.steering_hysteresis) * self.eviction_cost(runner),
            least_bar: bar.min(constants.theta),
        }
    }

    /// bar(r, m), s: a job for m waits up to this before r loads m.
    ///
    /// tb · L(m) if m is hot here: a further copy would earn lam(m)/(n(m)+1) > (1+delta) · cost(r),
    /// r has room (a lower bar, as nothing is evicted) or its victim has another copy, and no more
    /// copies are loading than exist. Otherwise theta · L(m): a last copy is not evicted to
    /// replicate, and while a model's first copy loads, jobs wait for it instead of loading
    /// another.
    pub fn bar_s(&self, load_bar: &LoadBar, model: Model, rng: &mut SplitMix64) -> f64 {
        let hot = self.earns(model, self.fleet.copies(model) + 1) > load_bar.hot_above;
        let bar = match hot && self.may_double(model, rng) {
            true => load_bar.least_bar,
            false => self.constants.theta,
        };
        bar * self.estimates.load_s(model)
    }

    /// Returns the minimum of [`View::bar_s`], s: most waits are below it, which is sufficient.
    pub fn least_bar_s(&self, load_bar: &LoadBar, model: Model) -> f64 {
        load_bar.least_bar * self.estimates.load_s(model)
    }

    /// Returns whether at most half of m's copies are loading: within one load time they may
    /// double.
    fn may_double(&self, model: Model, rng: &mut SplitMix64) -> bool {
        let holders = self.fleet.holders(model, self.constants.holders, rng);
        let (mut loading, mut all) = (0, 0);
        for holder in holders {
            loading += usize::from(self.fleet.is_loading(holder, model, self.now_s));
            all += 1;
        }
        2 * loading <= all
    }
}
