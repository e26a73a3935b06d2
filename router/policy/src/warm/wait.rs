//! W(m): the predicted wait for a runner that has the model.

use warmq_types::job::Priority;

use super::event::{Model, Runner};
use super::fleet::Activity;
use super::rng::SplitMix64;
use super::view::View;

/// W(m), s: over the runners h that have m on the device or in RAM, the least of
///
/// ```text
/// max(est_end(h) - now, S/4) + sum over x in cache(h) of q(x) * S(x) / n(x)
/// ```
///
/// and, where m is in RAM, the load from there. S/4 covers a run that takes longer than estimated;
/// the sum is h's part of the held jobs that it is warm for. Infinite without holders, apart from
/// `except` in RAM.
pub fn wait_s(
    view: &View<'_>,
    model: Model,
    lane: Priority,
    except: Option<Runner>,
    rng: &mut SplitMix64,
) -> f64 {
    waits_s(view, model, lane, except, rng).fold(f64::INFINITY, f64::min)
}

/// Returns whether W(m) exceeds `bar_s`, without computing it.
pub fn waits_longer(
    view: &View<'_>,
    model: Model,
    lane: Priority,
    except: Option<Runner>,
    bar_s: f64,
    rng: &mut SplitMix64,
) -> bool {
    waits_s(view, model, lane, except, rng).all(|wait_s| wait_s > bar_s)
}

/// Returns the waits for a sample of the holders, s.
fn waits_s(
    view: &View<'_>,
    model: Model,
    lane: Priority,
    except: Option<Runner>,
    rng: &mut SplitMix64,
) -> impl Iterator<Item = f64> {
    let count = view.constants.holders;
    let holders = view.fleet.holders.sample(model, count, rng);
    let in_ram = match view.useful_ram_holders(model) {
        0 => None,
        _ => Some(view.fleet.ram_holders.sample(model, count, rng)),
    };
    let in_ram = in_ram.into_iter().flatten();
    let in_ram = in_ram.filter(move |runner| Some(*runner) != except);
    let warm = holders.map(move |holder| wait_for_s(view, holder, lane));
    warm.chain(
        in_ram.map(move |holder| wait_for_s(view, holder, lane) + view.estimates.ram_load_s(model)),
    )
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
        .map(|&model| match view.queued(lane, model) {
            0 => 0.0,
            queued => queued as f64 * view.estimates.run_s(model) / view.fleet.copies(model) as f64,
        })
        .sum()
}
