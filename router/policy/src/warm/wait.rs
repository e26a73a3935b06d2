//! W(m): the predicted wait for a warm runner.

use warmq_types::job::Priority;

use super::event::{Model, Runner};
use super::fleet::Activity;
use super::rng::SplitMix64;
use super::view::View;

/// W(m), s: over the holders h of m, the least of
///
/// ```text
/// max(est_end(h) - now, S/4) + sum over x in cache(h) of q(x) * S(x) / n(x)
/// ```
///
/// S/4 covers a run that takes longer than estimated; the sum is h's part of the held jobs that
/// it is warm for. Infinite without holders.
pub fn wait_s(view: &View<'_>, model: Model, lane: Priority, rng: &mut SplitMix64) -> f64 {
    view.fleet
        .holders(model, view.constants.holders, rng)
        .map(|holder| wait_for_s(view, holder, lane))
        .fold(f64::INFINITY, f64::min)
}

/// Returns whether W(m) exceeds `bar_s`, without computing it.
pub fn waits_longer(
    view: &View<'_>,
    model: Model,
    lane: Priority,
    bar_s: f64,
    rng: &mut SplitMix64,
) -> bool {
    view.fleet
        .holders(model, view.constants.holders, rng)
        .all(|holder| wait_for_s(view, holder, lane) > bar_s)
}

/// Returns the time until this holder takes a further job of this lane, s.
fn wait_for_s(view: &View<'_>, holder: Runner, lane: Priority) -> f64 {
    remaining_s(view, holder) + backlog_s(view, holder, lane)
}

fn remaining_s(view: &View<'_>, runner: Runner) -> f64 {
    match view.fleet.get(runner).activity {
        Activity::Busy { ends_s, run_s } => (ends_s - view.now_s).max(run_s / 4.0),
        Activity::Idle | Activity::Absent => 0.0,
    }
}

fn backlog_s(view: &View<'_>, runner: Runner, lane: Priority) -> f64 {
    let cache = &view.fleet.get(runner).cache;
    cache
        .iter()
        .map(|&model| match view.window.queued(lane, model) {
            0 => 0.0,
            queued => queued as f64 * view.estimates.run_s(model) / view.fleet.copies(model) as f64,
        })
        .sum()
}
