//! What a runner's next victim is worth, and how long a wait must be before another copy is worth its load.

use super::View;
use super::event::{Model, Runner};

impl View<'_> {
    /// lam(m)/n, jobs/s: what one of n copies of a model earns.
    fn earns(&self, model: Model, copies: usize) -> f64 {
        self.estimates.rate(model, self.now_s) / copies.max(1) as f64
    }

    /// share(r), jobs/s: what evicting r's least recently used model v costs, lam(v)/n(v); 0 if r has room.
    pub fn share(&self, runner: Runner) -> f64 {
        match self.fleet.get(runner).victim() {
            None => 0.0,
            Some(victim) => self.earns(victim, self.fleet.copies(victim)),
        }
    }

    /// bar(r, m), s: a job for m waits up to this before r loads m.
    ///
    /// tb · L(m) if m is hot here: a further copy would earn lam(m)/(n(m)+1) > (1+delta) · share(r), and r has room (a lower
    /// bar, as nothing is evicted) or its victim has another copy. Else theta · L(m): a last copy is not evicted to replicate.
    pub fn bar_s(&self, runner: Runner, model: Model) -> f64 {
        let constants = self.constants;
        let hot = self.earns(model, self.fleet.copies(model) + 1)
            > (1.0 + constants.steering_hysteresis) * self.share(runner);
        let bar = match self.fleet.get(runner).victim() {
            None if hot => constants.room_bar,
            Some(victim) if hot && self.fleet.copies(victim) >= 2 => constants.steering_bar,
            _ => constants.theta,
        };
        bar * self.estimates.load_s(model)
    }
}
