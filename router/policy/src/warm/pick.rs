//! Matching: a runner for a job, a job for a runner.

use warmq_types::job::Priority;
use warmq_types::tier::Tier;

use super::event::{Avoid, Model, Owner, Runner, Why};
use super::eviction_cost::{LoadBar, eviction_cost, value};
use super::rng::SplitMix64;
use super::view::View;
use super::wait::{wait_s, waits_longer};
use super::window::{Backlog, HeldJob, micros};

/// Returns the idle runner that loads the model at the lowest cost, without `except`: one with the
/// model in RAM, if that is faster than its files; of several, from a sample of those that can load
/// it, the one with the lowest eviction cost.
pub fn cheapest_idle(
    view: &View<'_>,
    model: Option<Model>,
    except: Avoid,
    rng: &mut SplitMix64,
) -> Option<Runner> {
    let count = view.constants.sample;
    let in_ram = model
        .filter(|model| view.useful_ram_holders(*model) > 0)
        .map(|model| view.fleet.idle_ram_holders(model, count, except, rng))
        .filter(|in_ram| !in_ram.is_empty());
    let sample = in_ram.unwrap_or_else(|| view.fleet.idle_sample(model, count, except, rng));
    sample
        .into_iter()
        .map(|runner| (runner, eviction_cost(view, runner, model)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(runner, _)| runner)
}

/// Returns an idle runner not on the job's avoid list; one with its model, if any.
fn idle_unavoided(view: &View<'_>, held: &HeldJob, rng: &mut SplitMix64) -> Option<Runner> {
    let avoid = held.avoid;
    if avoid.is_empty() {
        return None;
    }
    let holder = held
        .model
        .and_then(|model| view.fleet.idle_holder(model, avoid, rng));
    holder.or_else(|| cheapest_idle(view, held.model, avoid, rng))
}

/// Returns an idle runner for a job whose patience is over, preferably not on its avoid list.
pub fn any_idle(view: &View<'_>, held: &HeldJob, rng: &mut SplitMix64) -> Option<Runner> {
    idle_unavoided(view, held, rng).or_else(|| cheapest_idle(view, held.model, Avoid::NONE, rng))
}

/// Returns whether a job waits for a runner that is not on its avoid list: a live one can load
/// its model, and the job's patience is not over.
pub fn waits_for_another(view: &View<'_>, held: &HeldJob) -> bool {
    !held.avoid.is_empty()
        && view.now_s < held.deadline_s
        && view.fleet.has_another(held.model, held.avoid)
}

/// Returns whether a runner may be sent a job: it can load the model, and the job does not wait
/// for another runner.
fn may_take(view: &View<'_>, runner: Runner, held: &HeldJob) -> bool {
    view.fleet.catalogs.may_run(runner, held.model)
        && !(held.avoid.contains(runner) && waits_for_another(view, held))
}

/// Returns a runner for a job if the job should be sent now.
pub fn runner_for(view: &View<'_>, held: &HeldJob, rng: &mut SplitMix64) -> Option<(Runner, Why)> {
    if view.shares.is_at_limit(held.owner) {
        return None;
    }
    if let Some(runner) = idle_unavoided(view, held, rng) {
        return Some((runner, Why::AnotherRunner));
    }
    if waits_for_another(view, held) {
        return None;
    }
    let Some(model) = held.model else {
        let runner = cheapest_idle(view, None, Avoid::NONE, rng)?;
        return Some((runner, Why::NoHintAndIdle));
    };
    if let Some(holder) = view.fleet.idle_holder(model, Avoid::NONE, rng) {
        return Some((holder, Why::WarmAndIdle));
    }
    let runner = cheapest_idle(view, Some(model), Avoid::NONE, rng)?;
    let why = why_cold(view, held, model, runner, &LoadBar::of(view, runner), rng)?;
    Some((runner, why))
}

/// Returns why a job may go to a runner without its model; `None` if waiting is better.
fn why_cold(
    view: &View<'_>,
    held: &HeldJob,
    model: Model,
    runner: Runner,
    load_bar: &LoadBar,
    rng: &mut SplitMix64,
) -> Option<Why> {
    let is_in_ram = view.fleet.get(runner).tier(model) == Tier::Ram;
    if view.fleet.copies(model) == 0 && (is_in_ram || view.useful_ram_holders(model) == 0) {
        return Some(Why::NoHolder);
    }
    if held.bound_s <= view.now_s {
        return Some(Why::BoundPassed);
    }
    if held.deadline_s <= view.now_s {
        return Some(Why::PatienceOver);
    }
    // Most scanned jobs wait for a holder that is soon free: the first such holder decides.
    let mut same = *rng;
    let least_s = load_bar.least_s(view, model);
    if !waits_longer(view, model, held.priority, Some(runner), least_s, rng) {
        return None;
    }
    let wait_s = wait_s(view, model, held.priority, Some(runner), &mut same);
    let bar_s = load_bar.model_s(view, model, rng);
    (wait_s > bar_s).then_some(Why::Replicated { wait_s, bar_s })
}

/// Returns a job of this lane for an idle runner; `None` keeps it idle on purpose, since a warm
/// job may arrive soon.
///
/// The owner that is furthest behind its share comes first, among those that the runner is warm for
/// or that have a job due. One that is behind these gets a load if that pays.
pub fn job_for(
    view: &View<'_>,
    runner: Runner,
    lane: Priority,
    rng: &mut SplitMix64,
) -> Option<(HeldJob, Why)> {
    let backlogs = view.backlogs(lane);
    for (index, backlog) in backlogs.iter().enumerate() {
        let is_warm = |held: &HeldJob| {
            let cache = &view.fleet.get(runner).cache;
            held.model.is_none_or(|model| cache.contains(&model))
        };
        // Age forces no load for an owner that comes later.
        let found = due_job_for(view, runner, *backlog)
            .filter(|(held, _)| index == 0 || is_warm(held))
            .or_else(|| warm_job_for(view, runner, *backlog));
        if found.is_some() {
            let mut behind = backlogs[..index].iter();
            return behind
                .find_map(|first| job_behind_share(view, runner, *first, backlog.owner, rng))
                .or(found);
        }
    }
    let mut backlogs = backlogs.into_iter();
    backlogs.find_map(|backlog| cold_job_for(view, runner, backlog, rng))
}

/// Returns until when an idle runner is kept for the owner of its last job instead of being loaded
/// for `held`, which is another owner's, s.
///
/// That is `keep` load times from the end of that job, if the models on the runner are expected to
/// be needed there at least `keep_rate` times in a load time, and if its owner is at most a load
/// and a reload ahead of its share. So the runner is idle for as long as a load and a reload would
/// take, at most (ski rental).
pub fn kept_until_s(view: &View<'_>, runner: Runner, held: &HeldJob) -> Option<f64> {
    let load_s = view.load_on_s(runner, held.model?);
    let last = view.shares.last(runner)?;
    let until_s = last.ended_s + view.constants.keep * load_s;
    let ahead_s = view.shares.behind_s(held.owner, last.owner);
    let is_ahead = ahead_s > 2.0 * load_s;
    if last.owner == held.owner || micros(until_s) <= micros(view.now_s) || is_ahead {
        return None;
    }
    let cache = view.fleet.get(runner).cache.iter();
    let rate: f64 = cache
        .map(|model| value(view, *model, view.fleet.copies(*model)))
        .sum();
    (rate * load_s >= view.constants.keep_rate).then_some(until_s)
}

/// Returns a job of an owner that is behind its share although the runner is warm for `other`:
/// one that waits too long for a warm runner even where its owner comes first.
fn job_behind_share(
    view: &View<'_>,
    runner: Runner,
    backlog: Backlog,
    other: Owner,
    rng: &mut SplitMix64,
) -> Option<(HeldJob, Why)> {
    let view = &View {
        only: Some(backlog.owner),
        ..*view
    };
    let behind_s = view.shares.behind_s(backlog.owner, other);
    if behind_s <= 0.0 {
        return None;
    }
    let (held, _) = cold_job_for(view, runner, backlog, rng)?;
    let load_s = (held.model).map_or(0.0, |model| view.load_on_s(runner, model));
    (view.shares)
        .may_swap(backlog.owner, other, load_s)
        .then_some((held, Why::BehindShare { behind_s }))
}

/// Returns the job of this backlog that was due first, if one is due: past its own bound, or of
/// age D.
///
/// A job without hint that was accepted before that bound passed precedes it, since any runner
/// would have served it from the start. Age D forces a swap only past the runner's residency,
/// or where a job past its bound would force one anyway.
fn due_job_for(view: &View<'_>, runner: Runner, backlog: Backlog) -> Option<(HeldJob, Why)> {
    let state = view.fleet.get(runner);
    let is_warm = |held: &HeldJob| held.model.is_none_or(|model| state.cache.contains(&model));
    let may_take = |held: &&HeldJob| may_take(view, runner, held);
    let bound_passed = view.window.bound_passed(backlog, view.now_s).find(may_take);
    let without_hint = view.window.without_hint(backlog).find(may_take);
    let first = bound_passed.map(|bound_passed| match without_hint {
        Some(held) if held.since_s <= bound_passed.bound_s => (*held, Why::NoHint),
        _ => (*bound_passed, Why::BoundPassed),
    });
    let oldest = view.window.oldest_first(backlog).find(may_take)?;
    if !view.is_overdue(oldest) {
        return first;
    }
    let overdue_s = oldest.since_s + view.overdue_s(oldest.model);
    let load_s = (oldest.model).map_or(0.0, |model| view.load_on_s(runner, model));
    let residency_s = view.constants.residency * load_s;
    let may_swap = is_warm(oldest) || view.now_s - state.last_swap_s > residency_s;
    let bound_is_first = bound_passed.is_some_and(|held| held.bound_s < overdue_s);
    match first {
        Some((held, _)) if bound_is_first || (is_warm(&held) && !may_swap) => first,
        None if !may_swap => None,
        _ => Some((*oldest, Why::Overdue)),
    }
}

/// Returns the oldest held job that a runner is warm for; every runner is warm for a job
/// without hint.
fn warm_job_for(view: &View<'_>, runner: Runner, backlog: Backlog) -> Option<(HeldJob, Why)> {
    let may_take = |held: &&HeldJob| may_take(view, runner, held);
    let cache = &view.fleet.get(runner).cache;
    let heads =
        (cache.iter()).filter_map(|&model| view.window.of_model(backlog, model).find(may_take));
    let without_hint = view.window.without_hint(backlog).find(may_take);
    let held = heads.chain(without_hint).min_by_key(|held| held.position)?;
    let why = held.model.map_or(Why::NoHint, |_| Why::LateBinding);
    Some((*held, why))
}

/// Returns, of the oldest held jobs, the head of the model with the longest queue per copy, so
/// that the load serves many. An overdue job comes first, since the swap happens anyway.
fn cold_job_for(
    view: &View<'_>,
    runner: Runner,
    backlog: Backlog,
    rng: &mut SplitMix64,
) -> Option<(HeldJob, Why)> {
    let load_bar = LoadBar::of(view, runner);
    let state = view.fleet.get(runner);
    let mut best: Option<(f64, HeldJob, Why)> = None;
    let may_take = |held: &&HeldJob| may_take(view, runner, held);
    let oldest = view.window.oldest_first(backlog).filter(may_take);
    for held in oldest.take(view.constants.scan) {
        let Some(model) = held.model else { continue };
        if best.is_some_and(|(_, best, _)| best.model == Some(model)) {
            continue;
        }
        let Some(why) = why_cold(view, held, model, runner, &load_bar, rng) else {
            continue;
        };
        if view.is_overdue(held) {
            return Some((*held, Why::Overdue));
        }
        let queued = view.queued(backlog.priority, model) as f64;
        let gain = match state.ram.contains(&model) {
            true => 1.0 / view.ram_part(model).max(f64::MIN_POSITIVE),
            false => 1.0,
        };
        let score = gain * queued / (view.fleet.copies(model) + 1) as f64;
        if best.is_none_or(|(best, _, _)| score > best) {
            best = Some((score, *held, why));
        }
    }
    if let Some((_, held, why)) = best {
        let head =
            (held.model).and_then(|model| view.window.of_model(backlog, model).find(may_take));
        return Some((head.copied().unwrap_or(held), why));
    }
    let expired = view.window.expired(backlog).find(may_take)?;
    Some((*expired, Why::PatienceOver))
}
