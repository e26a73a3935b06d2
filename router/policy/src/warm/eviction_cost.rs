//! The cost of a runner's next eviction, and the bar that a wait must exceed before another copy is
//! worth its load.

use super::event::{Model, Runner};
use super::rng::SplitMix64;
use super::view::View;

/// lam(m)/n, jobs/s: the value of one of n copies of a model.
pub fn value(view: &View<'_>, model: Model, copies: usize) -> f64 {
    view.estimates.rate(model, view.now_s) / copies.max(1) as f64
}

/// cost(r, m), jobs/s, of loading m on r: lam(v)/n(v) of its least recently used model v; 0 if r
/// has room.
///
/// Where RAM keeps v, only the part of its load that RAM does not save counts, and the saved part
/// of the model x that leaves RAM instead, if any: lam(x)/n(x), n(x) over both tiers.
pub fn eviction_cost(view: &View<'_>, runner: Runner, model: Option<Model>) -> f64 {
    let state = view.fleet.get(runner);
    let Some(victim) = state.victim() else {
        return 0.0;
    };
    let lost = value(view, victim, view.fleet.copies(victim));
    if !state.keeps_victims() {
        return lost;
    }
    let moved = lost * view.ram_part(victim);
    // A model that moves to the device leaves its place in RAM.
    let is_exchange = model.is_some_and(|model| state.ram.contains(&model));
    match state.ram_victim().filter(|_| !is_exchange) {
        None => moved,
        Some(dropped) => {
            let copies = view.fleet.copies(dropped) + view.fleet.ram_holders.count(dropped);
            moved + value(view, dropped, copies) * (1.0 - view.ram_part(dropped))
        }
    }
}

/// A runner's bar for loading a model.
#[derive(Debug, Clone, Copy)]
pub struct LoadBar {
    runner: Runner,
    /// The bar for a hot model, in units of its load time.
    least_bar: f64,
}

impl LoadBar {
    /// Returns the bar of a runner.
    pub fn of(view: &View<'_>, runner: Runner) -> Self {
        let constants = view.constants;
        let state = view.fleet.get(runner);
        let bar = match state.victim() {
            None => constants.room_bar,
            Some(victim) if state.keeps_victims() || view.fleet.copies(victim) >= 2 => {
                constants.steering_bar
            }
            Some(_) => constants.theta,
        };
        Self {
            runner,
            least_bar: bar.min(constants.theta),
        }
    }

    /// bar(r, m), s: a job for m waits up to this before r loads m.
    ///
    /// With l the load time of m on r, from RAM or disk: tb · l if m is hot here: a further copy
    /// would earn lam(m)/(n(m)+1) > (1+delta) · cost(r, m), r has room (a lower bar, as nothing is
    /// evicted) or its victim has another copy or stays in RAM, and no more copies are loading than
    /// exist. Otherwise theta · l: a last copy is not evicted to replicate, and while a model's
    /// first copy loads, jobs wait for it instead of loading another.
    pub fn model_s(&self, view: &View<'_>, model: Model, rng: &mut SplitMix64) -> f64 {
        let cost = eviction_cost(view, self.runner, Some(model));
        let hot_above = (1.0 + view.constants.steering_hysteresis) * cost;
        let hot = value(view, model, view.fleet.copies(model) + 1) > hot_above;
        let bar = match hot && may_double(view, model, rng) {
            true => self.least_bar,
            false => view.constants.theta,
        };
        bar * view.load_on_s(self.runner, model)
    }

    /// Returns the minimum of [`LoadBar::model_s`], s: most waits are below it, which is
    /// sufficient.
    pub fn least_s(&self, view: &View<'_>, model: Model) -> f64 {
        self.least_bar * view.load_on_s(self.runner, model)
    }
}

/// Returns whether at most half of m's copies are loading: within one load time they may double.
fn may_double(view: &View<'_>, model: Model, rng: &mut SplitMix64) -> bool {
    let holders = view
        .fleet
        .holders
        .sample(model, view.constants.holders, rng);
    let (mut loading, mut all) = (0, 0);
    for holder in holders {
        loading += usize::from(view.fleet.is_loading(holder, model, view.now_s));
        all += 1;
    }
    2 * loading <= all
}
