//! W(m): the predicted wait for a warm runner.

use warmq_types::job::Priority;

use super::View;
use super::event::{Model, Runner};
use super::fleet::Activity;
use super::rng::SplitMix64;

impl View<'_> {
    /// W(m), s: over the holders h of m, the least of
    ///
    /// ```text
    /// max(est_end(h) - now, S/4) + sum over x in cache(h) of q(x) * S(x) / n(x)
    /// ```
    ///
    /// S/4 covers a run that takes longer than estimated; the sum is h's part of the held jobs that
    /// it is warm for. Infinite without holders.
    pub fn wait_s(&self, model: Model, lane: Priority, rng: &mut SplitMix64) -> f64 {
        self.fleet
            .holders(model, self.constants.holders, rng)
            .map(|holder| self.wait_for_s(holder, lane))
            .fold(f64::INFINITY, f64::min)
    }

    /// Returns whether W(m) exceeds `bar_s`, without computing it.
    pub fn waits_longer(
        &self,
        model: Model,
        lane: Priority,
        bar_s: f64,
        rng: &mut SplitMix64,
    ) -> bool {
        self.fleet
            .holders(model, self.constants.holders, rng)
            .all(|holder| self.wait_for_s(holder, lane) > bar_s)
    }

    /// Returns the time until this holder takes a further job of this lane, s.
    fn wait_for_s(&self, holder: Runner, lane: Priority) -> f64 {
        self.remaining_s(holder) + self.backlog_s(holder, lane)
    }

    fn remaining_s(&self, runner: Runner) -> f64 {
        match self.fleet.get(runner).activity {
            Activity::Busy { ends_s, run_s } => (ends_s - self.now_s).max(run_s / 4.0),
            Activity::Idle | Activity::Absent => 0.0,
        }
    }

    fn backlog_s(&self, runner: Runner, lane: Priority) -> f64 {
        let cache = &self.fleet.get(runner).cache;
        cache
            .iter()
            .map(|&model| match self.window.queued(lane, model) {
                0 => 0.0,
                queued => {
                    queued as f64 * self.estimates.run_s(model) / self.fleet.copies(model) as f64
                }
            })
            .sum()
    }
}
