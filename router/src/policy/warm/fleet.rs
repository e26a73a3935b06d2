//! The runners as the policy sees them: who is idle, who holds what, when the busy ones end. What a runner holds after a
//! send is predicted (it evicts its least recently used model); what it reports when it is free is the truth.

use std::collections::BTreeSet;

use super::dice::Dice;
use super::event::{Model, Runner};
use super::window::Held;

/// What a runner does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doing {
    /// It is lost, or never joined.
    Nothing,
    /// It waits for a job.
    Idle,
    /// It runs something until `ends_s`, by estimate.
    Busy {
        /// Estimated end, s.
        ends_s: f64,
        /// S of what it runs, s.
        run_s: f64,
    },
}

/// A send that the runner may yet refuse, and how the runner was before it.
#[derive(Debug, Clone)]
struct Sent {
    held: Held,
    cache: Vec<Model>,
    last_swap_s: f64,
}

/// One runner.
#[derive(Debug, Clone)]
pub struct RunnerView {
    /// What it does.
    pub doing: Doing,
    /// What it holds or is loading, least recently used first.
    pub cache: Vec<Model>,
    /// How many models it can hold.
    pub slots: usize,
    /// When it was last sent a cold job, s.
    pub last_swap_s: f64,
    sent: Option<Sent>,
}

impl RunnerView {
    const GONE: Self = Self {
        doing: Doing::Nothing,
        cache: Vec::new(),
        slots: 0,
        last_swap_s: f64::NEG_INFINITY,
        sent: None,
    };

    /// It can load a model without evicting one.
    pub fn has_room(&self) -> bool {
        self.cache.len() < self.slots
    }

    /// It was sent a job that needs this model, which it lacked, and is not yet through with loading it, by estimate.
    pub fn is_loading(&self, model: Model, now_s: f64) -> bool {
        match (self.doing, &self.sent) {
            (Doing::Busy { ends_s, run_s }, Some(sent)) => {
                sent.held.model == Some(model)
                    && !sent.cache.contains(&model)
                    && ends_s - run_s > now_s
            }
            _ => false,
        }
    }

    /// LRU(r): the model that it would evict for another; `None` while it has room.
    pub fn victim(&self) -> Option<Model> {
        match self.has_room() {
            true => None,
            false => self.cache.first().copied(),
        }
    }
}

/// A set to draw from at random; every operation costs O(1).
#[derive(Debug, Clone, Default)]
struct Pool {
    members: Vec<Runner>,
    positions: Vec<Option<usize>>,
}

impl Pool {
    fn insert(&mut self, runner: Runner) {
        let index = runner.0 as usize;
        if index >= self.positions.len() {
            self.positions.resize(index + 1, None);
        }
        if self.positions[index].is_none() {
            self.positions[index] = Some(self.members.len());
            self.members.push(runner);
        }
    }

    fn remove(&mut self, runner: Runner) {
        let index = runner.0 as usize;
        if let Some(position) = self.positions.get_mut(index).and_then(Option::take) {
            self.members.swap_remove(position);
            if let Some(moved) = self.members.get(position) {
                self.positions[moved.0 as usize] = Some(position);
            }
        }
    }

    /// Up to `count` members: all of them, or consecutive ones from a random place.
    fn sample(&self, count: usize, dice: &mut Dice) -> impl Iterator<Item = Runner> + use<'_> {
        let start = match self.members.len() > count {
            true => dice.below(self.members.len()),
            false => 0,
        };
        let around = self.members.iter().cycle().skip(start);
        around.take(count.min(self.members.len())).copied()
    }
}

#[derive(Debug, Clone, Default)]
struct Holders {
    all: BTreeSet<Runner>,
    idle: Pool,
}

/// The runners of one app.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    runners: Vec<RunnerView>,
    holders: Vec<Holders>,
    idle: Pool,
    idle_with_room: Pool,
}

impl Fleet {
    /// A runner; unknown ones look like lost ones.
    pub fn get(&self, runner: Runner) -> &RunnerView {
        const GONE: &RunnerView = &RunnerView::GONE;
        self.runners.get(runner.0 as usize).unwrap_or(GONE)
    }

    /// n(m): runners that hold the model or are loading it.
    pub fn copies(&self, model: Model) -> usize {
        self.holders
            .get(model.0 as usize)
            .map_or(0, |holders| holders.all.len())
    }

    /// Up to `count` holders of the model, from a random place on.
    pub fn holders(
        &self,
        model: Model,
        count: usize,
        dice: &mut Dice,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        let all = self
            .holders
            .get(model.0 as usize)
            .map(|holders| &holders.all);
        let start = match all {
            Some(all) if all.len() > count => Runner(dice.below(self.runners.len()) as u32),
            _ => Runner(0),
        };
        all.into_iter()
            .flat_map(move |all| all.range(start..).chain(all.range(..start)))
            .take(count)
            .copied()
    }

    /// An idle holder of the model, at random.
    pub fn idle_holder(&self, model: Model, dice: &mut Dice) -> Option<Runner> {
        let holders = self.holders.get(model.0 as usize)?;
        holders.idle.sample(1, dice).next()
    }

    /// Up to `count` idle runners; if any have room, one of those.
    pub fn idle_sample(
        &self,
        count: usize,
        dice: &mut Dice,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        match self.idle_with_room.members.is_empty() {
            true => self.idle.sample(count, dice),
            false => self.idle_with_room.sample(1, dice),
        }
    }

    /// How many are idle.
    pub fn idle_count(&self) -> usize {
        self.idle.members.len()
    }

    /// Somebody is idle.
    pub fn anyone_idle(&self) -> bool {
        self.idle_count() > 0
    }

    /// This one is idle.
    pub fn is_idle(&self, runner: Runner) -> bool {
        self.get(runner).doing == Doing::Idle
    }

    /// At most `count` idle holders of the model.
    pub fn idle_holders(&self, model: Model, count: usize) -> Vec<Runner> {
        let holders = self.holders.get(model.0 as usize);
        let idle = holders
            .into_iter()
            .flat_map(|holders| &holders.idle.members);
        idle.take(count).copied().collect()
    }

    fn runner_mut(&mut self, runner: Runner) -> &mut RunnerView {
        let index = runner.0 as usize;
        if index >= self.runners.len() {
            self.runners.resize(index + 1, RunnerView::GONE);
        }
        &mut self.runners[index]
    }

    fn holders_mut(&mut self, model: Model) -> &mut Holders {
        let index = model.0 as usize;
        if index >= self.holders.len() {
            self.holders.resize(index + 1, Holders::default());
        }
        &mut self.holders[index]
    }

    /// Changes a runner with `change` and brings the indexes after it.
    fn update(&mut self, runner: Runner, change: impl FnOnce(&mut RunnerView)) {
        let view = self.runner_mut(runner);
        let before = std::mem::take(&mut view.cache);
        view.cache.clone_from(&before);
        change(view);
        // Sorted, so that a runner which reports thousands of models costs K log K.
        let mut after = view.cache.clone();
        after.sort_unstable();
        let idle = view.doing == Doing::Idle;
        let room = view.has_room();
        for model in before {
            let holders = self.holders_mut(model);
            holders.idle.remove(runner);
            if after.binary_search(&model).is_err() {
                holders.all.remove(&runner);
            }
        }
        for model in after {
            let holders = self.holders_mut(model);
            holders.all.insert(runner);
            if idle {
                holders.idle.insert(runner);
            }
        }
        match idle {
            true => self.idle.insert(runner),
            false => self.idle.remove(runner),
        }
        match idle && room {
            true => self.idle_with_room.insert(runner),
            false => self.idle_with_room.remove(runner),
        }
    }

    /// The runner is idle and holds `cache`.
    pub fn freed(&mut self, runner: Runner, cache: Vec<Model>, slots: usize) {
        self.update(runner, |view| {
            view.doing = Doing::Idle;
            view.cache = cache;
            view.slots = slots;
            view.sent = None;
        });
    }

    /// The runner is gone; returns what it held.
    pub fn lost(&mut self, runner: Runner) -> Vec<Model> {
        let cache = self.get(runner).cache.clone();
        self.update(runner, |view| *view = RunnerView::GONE);
        cache
    }

    /// The runner is busy with something that the policy did not send.
    pub fn taken(&mut self, runner: Runner, ends_s: f64, run_s: f64) {
        self.update(runner, |view| {
            if view.doing != Doing::Nothing {
                view.doing = Doing::Busy { ends_s, run_s };
            }
        });
    }

    /// The runner was sent `held` and will end at `ends_s`. Predicts what it will then hold.
    pub fn sent(&mut self, runner: Runner, held: Held, now_s: f64, ends_s: f64, run_s: f64) {
        self.update(runner, |view| {
            view.sent = Some(Sent {
                held,
                cache: view.cache.clone(),
                last_swap_s: view.last_swap_s,
            });
            view.doing = Doing::Busy { ends_s, run_s };
            let Some(model) = held.model else { return };
            if let Some(position) = view.cache.iter().position(|held| *held == model) {
                view.cache.remove(position);
            } else {
                view.last_swap_s = now_s;
                if !view.has_room() && !view.cache.is_empty() {
                    view.cache.remove(0);
                }
            }
            view.cache.push(model);
        });
    }

    /// The last send to the runner did not happen: undoes it and returns its job. The runner counts as busy until it
    /// says otherwise.
    pub fn refused(&mut self, runner: Runner, ends_s: f64, run_s: f64) -> Option<Held> {
        self.undo(runner, Doing::Busy { ends_s, run_s })
    }

    /// The last send to the runner did not happen, and the runner is idle as before.
    pub fn unsent(&mut self, runner: Runner) {
        self.undo(runner, Doing::Idle);
    }

    fn undo(&mut self, runner: Runner, doing: Doing) -> Option<Held> {
        let mut back = None;
        self.update(runner, |view| {
            if let Some(sent) = view.sent.take() {
                view.cache = sent.cache;
                view.last_swap_s = sent.last_swap_s;
                view.doing = doing;
                back = Some(sent.held);
            }
        });
        back
    }
}
