//! The choices: which runner for a job, which job for a runner.

use warmq_common::job::Priority;

use super::View;
use super::dice::Dice;
use super::event::{Avoid, Model, Runner, Why};
use super::share::Offer;
use super::window::{Held, Order};

impl View<'_> {
    /// The idle runner whose next victim is worth least, of a sample without `but`.
    pub fn cheapest_idle(&self, but: Avoid, dice: &mut Dice) -> Option<Runner> {
        let sample = self.fleet.idle_sample(self.constants.sample, but, dice);
        sample
            .map(|runner| (runner, self.share(runner)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(runner, _)| runner)
    }

    /// An idle runner on which no attempt of the job failed; with its model, if there is one.
    pub fn elsewhere(&self, held: &Held, dice: &mut Dice) -> Option<Runner> {
        let avoid = held.avoid;
        if avoid.is_empty() {
            return None;
        }
        let holder = held
            .model
            .and_then(|model| self.fleet.idle_holder(model, avoid, dice));
        holder.or_else(|| self.cheapest_idle(avoid, dice))
    }

    /// A runner for a job that has a hint, if it should be sent now.
    pub fn runner_for(&self, held: &Held, model: Model, dice: &mut Dice) -> Option<(Runner, Why)> {
        if let Some(holder) = self.fleet.idle_holder(model, Avoid::NONE, dice) {
            return Some((holder, Why::WarmAndIdle));
        }
        let runner = self.cheapest_idle(Avoid::NONE, dice)?;
        let why = self.why_cold(held, model, &self.offer(runner), dice)?;
        Some((runner, why))
    }

    /// Why a job may go to a runner that lacks its model; `None` if it should rather wait.
    fn why_cold(&self, held: &Held, model: Model, offer: &Offer, dice: &mut Dice) -> Option<Why> {
        if self.fleet.copies(model) == 0 {
            return Some(Why::NobodyHoldsIt);
        }
        if held.deadline_s <= self.now_s {
            return Some(Why::PatienceOver);
        }
        // Most scanned jobs wait for somebody who is soon free: the first such holder settles it.
        let mut same = *dice;
        let least_s = self.least_bar_s(offer, model);
        if !self.waits_longer(model, held.priority, least_s, dice) {
            return None;
        }
        let wait_s = self.wait_s(model, held.priority, &mut same);
        let bar_s = self.bar_s(offer, model, dice);
        (wait_s > bar_s).then_some(Why::Replicated { wait_s, bar_s })
    }

    /// A job of this lane for an idle runner; `None` leaves it idle, on purpose: a warm job may come soon.
    pub fn job_for(&self, runner: Runner, lane: Priority, dice: &mut Dice) -> Option<(Held, Why)> {
        let view = self.fleet.get(runner);
        let oldest = self.window.oldest_first(lane).next()?;
        let overdue = self.is_overdue(oldest);
        let warm = oldest.model.is_none_or(|model| view.cache.contains(&model));
        let residency_s = self.constants.residency * self.load_s(oldest);
        if overdue && (warm || self.now_s - view.last_swap_s > residency_s) {
            return Some((*oldest, Why::Overdue));
        }
        self.warm_job_for(&view.cache, lane)
            .or_else(|| self.cold_job_for(runner, lane, dice))
    }

    /// The oldest held job that a runner with this cache is warm for; every runner is warm for a job without hint.
    fn warm_job_for(&self, cache: &[Model], lane: Priority) -> Option<(Held, Why)> {
        let heads = cache
            .iter()
            .filter_map(|&model| self.window.head(lane, model));
        let first: Order = heads.chain(self.window.head_without_hint(lane)).min()?;
        let held = self.window.get(lane, first)?;
        let why = held.model.map_or(Why::NoHint, |_| Why::LateBinding);
        Some((*held, why))
    }

    /// Of the oldest held jobs, the head of the model with the longest queue per copy, so that the load serves many. An
    /// overdue one goes first: who swaps anyway swaps for it.
    fn cold_job_for(&self, runner: Runner, lane: Priority, dice: &mut Dice) -> Option<(Held, Why)> {
        let offer = self.offer(runner);
        let mut best: Option<(f64, Held, Why)> = None;
        for held in self.window.oldest_first(lane).take(self.constants.scan) {
            let Some(model) = held.model else { continue };
            if best.is_some_and(|(_, best, _)| best.model == Some(model)) {
                continue;
            }
            let Some(why) = self.why_cold(held, model, &offer, dice) else {
                continue;
            };
            if self.is_overdue(held) {
                return Some((*held, Why::Overdue));
            }
            let queued = self.window.queued(lane, model) as f64;
            let score = queued / (self.fleet.copies(model) + 1) as f64;
            if best.is_none_or(|(best, _, _)| score > best) {
                best = Some((score, *held, why));
            }
        }
        if let Some((_, held, why)) = best {
            let head = held.model.and_then(|model| self.window.head(lane, model));
            let head = head.and_then(|order| self.window.get(lane, order));
            return Some((head.copied().unwrap_or(held), why));
        }
        let expired = self.window.oldest_expired(lane)?;
        Some((*expired, Why::PatienceOver))
    }

    /// Older than D = 6 · max(S, L).
    fn is_overdue(&self, held: &Held) -> bool {
        self.now_s - held.since_s > self.overdue_s(held.model)
    }

    /// D, s.
    pub fn overdue_s(&self, model: Option<Model>) -> f64 {
        let (run_s, load_s) = match model {
            Some(model) => (self.estimates.run_s(model), self.estimates.load_s(model)),
            None => (self.estimates.any_run_s(), self.estimates.any_load_s()),
        };
        self.constants.overdue * run_s.max(load_s)
    }

    fn load_s(&self, held: &Held) -> f64 {
        held.model.map_or(self.estimates.any_load_s(), |model| {
            self.estimates.load_s(model)
        })
    }
}
