//! The cost of a runner's next eviction, and the bar that a wait must exceed before another copy is
//! worth its load.

use super::event::{Model, Runner};
use super::rng::SplitMix64;
use super::view::View;

/// lam(m)/n, jobs/s: the value of one of n copies of a model.
fn value(view: &View<'_>, model: Model, copies: usize) -> f64 {
    view.estimates.rate(model, view.now_s) / copies.max(1) as f64
}

/// cost(r), jobs/s: lam(v)/n(v) of r's least recently used model v; 0 if r has room.
pub fn eviction_cost(view: &View<'_>, runner: Runner) -> f64 {
    match view.fleet.get(runner).victim() {
        None => 0.0,
        Some(victim) => value(view, victim, view.fleet.copies(victim)),
    }
}

/// A runner's bar for loading a model: independent of the job.
#[derive(Debug, Clone, Copy)]
pub struct LoadBar {
    /// A model is hot here if a further copy would earn more than this, jobs/s.
    hot_above: f64,
    /// The bar for a hot model, in units of L.
    least_bar: f64,
}

impl LoadBar {
    /// Returns the bar of a runner.
    pub fn of(view: &View<'_>, runner: Runner) -> Self {
        let constants = view.constants;
        let bar = match view.fleet.get(runner).victim() {
            None => constants.room_bar,
            Some(victim) if view.fleet.copies(victim) >= 2 => constants.steering_bar,
            Some(_) => constants.theta,
        };
        Self {
            hot_above: (1.0 + constants.steering_hysteresis) * eviction_cost(view, runner),
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
    pub fn model_s(&self, view: &View<'_>, model: Model, rng: &mut SplitMix64) -> f64 {
        let hot = value(view, model, view.fleet.copies(model) + 1) > self.hot_above;
        let bar = match hot && may_double(view, model, rng) {
            true => self.least_bar,
            false => view.constants.theta,
        };
        bar * view.estimates.load_s(model)
    }

    /// Returns the minimum of [`LoadBar::model_s`], s: most waits are below it, which is
    /// sufficient.
    pub fn least_s(&self, view: &View<'_>, model: Model) -> f64 {
        self.least_bar * view.estimates.load_s(model)
    }
}

/// Returns whether at most half of m's copies are loading: within one load time they may double.
fn may_double(view: &View<'_>, model: Model, rng: &mut SplitMix64) -> bool {
    let holders = view.fleet.holders(model, view.constants.holders, rng);
    let (mut loading, mut all) = (0, 0);
    for holder in holders {
        loading += usize::from(view.fleet.is_loading(holder, model, view.now_s));
        all += 1;
    }
    2 * loading <= all
}
