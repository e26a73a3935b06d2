//! The policy's view of the runners: idle ones, holders of models, expected ends of busy ones. The
//! cache after a send is predicted (the least recently used model is evicted); a freed runner's
//! report replaces the prediction.

use smallvec::SmallVec;

use super::catalogs::Catalogs;
use super::event::{Avoid, Model, Runner};
use super::rng::SplitMix64;
use super::runner_set::RunnerSet;
use super::window::HeldJob;

/// Models that a runner holds, least recently used first. The usual few are stored inline.
pub type Cache = SmallVec<[Model; 4]>;

/// Activity of a runner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activity {
    /// Lost, or never joined.
    Absent,
    /// Waiting for a job.
    Idle,
    /// Running something until about `ends_s`.
    Busy {
        /// Estimated end, s.
        ends_s: f64,
        /// S of the run, s.
        run_s: f64,
    },
}

/// The last send to a runner, which may yet be refused, and what it changed.
#[derive(Debug, Clone, Copy)]
struct Sent {
    held: HeldJob,
    /// Index of the job's model in the cache before the send; `None` if it was absent, or without
    /// hint.
    cache_index: Option<usize>,
    evicted: Option<Model>,
    last_swap_s: f64,
}

#[derive(Debug, Clone)]
pub struct RunnerView {
    pub activity: Activity,
    /// Models held or being loaded, least recently used first.
    pub cache: Cache,
    /// Number of models that it can hold.
    pub slots: usize,
    /// Time of the last send of a cold job, s.
    pub last_swap_s: f64,
}

impl RunnerView {
    const GONE: Self = Self {
        activity: Activity::Absent,
        cache: SmallVec::new_const(),
        slots: 0,
        last_swap_s: f64::NEG_INFINITY,
    };

    /// Returns whether it can load a model without an eviction.
    pub fn has_room(&self) -> bool {
        self.cache.len() < self.slots
    }

    /// LRU(r): the model that it would evict for another; `None` while it has room.
    pub fn victim(&self) -> Option<Model> {
        match self.has_room() {
            true => None,
            false => self.cache.first().copied(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Holders {
    all: RunnerSet,
    idle: RunnerSet,
}

/// The runners of one app.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    runners: Vec<RunnerView>,
    /// The last refusable send to each runner; stored apart, since few reads need it.
    sent: Vec<Option<Sent>>,
    holders: Vec<Holders>,
    idle: RunnerSet,
    idle_with_room: RunnerSet,
    /// Number of runners that are idle or busy.
    live: usize,
    pub catalogs: Catalogs,
}

impl Fleet {
    /// Returns a runner; an unknown one counts as lost.
    pub fn get(&self, runner: Runner) -> &RunnerView {
        const GONE: &RunnerView = &RunnerView::GONE;
        self.runners.get(runner.0 as usize).unwrap_or(GONE)
    }

    /// Returns whether the runner is, by estimate, still loading this model for the job that it was
    /// sent.
    pub fn is_loading(&self, runner: Runner, model: Model, now_s: f64) -> bool {
        let sent = self.sent.get(runner.0 as usize).copied().flatten();
        match (self.get(runner).activity, sent) {
            (Activity::Busy { ends_s, run_s }, Some(sent)) => {
                sent.held.model == Some(model)
                    && sent.cache_index.is_none()
                    && ends_s - run_s > now_s
            }
            _ => false,
        }
    }

    /// n(m): number of runners that hold the model or are loading it.
    pub fn copies(&self, model: Model) -> usize {
        self.holders
            .get(model.0 as usize)
            .map_or(0, |holders| holders.all.len())
    }

    /// Returns up to `count` holders of the model, from a random index.
    pub fn holders(
        &self,
        model: Model,
        count: usize,
        rng: &mut SplitMix64,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        let holders = self.holders.get(model.0 as usize);
        let sample = holders.map(|holders| holders.all.sample(count, Avoid::NONE, rng));
        sample.into_iter().flatten()
    }

    /// Returns a random idle holder of the model outside `except` that may be sent a job for it.
    pub fn idle_holder(&self, model: Model, except: Avoid, rng: &mut SplitMix64) -> Option<Runner> {
        let idle = &self.holders.get(model.0 as usize)?.idle;
        if self.catalogs.are_unlimited() {
            return idle.sample(1, except, rng).next();
        }
        let start = rng.below(idle.len());
        let around = idle.iter().skip(start).chain(idle.iter().take(start));
        let mut outside = around.filter(|runner| !except.contains(*runner));
        outside.find(|runner| self.catalogs.may_run(*runner, Some(model)))
    }

    /// Returns up to `count` idle runners outside `except` that may be sent a job for the model; if
    /// any have room, one of those.
    pub fn idle_sample(
        &self,
        model: Option<Model>,
        count: usize,
        except: Avoid,
        rng: &mut SplitMix64,
    ) -> SmallVec<[Runner; 8]> {
        if self.catalogs.are_unlimited() {
            return match self.idle_with_room.is_empty_except(except) {
                false => self.idle_with_room.sample(1, except, rng).collect(),
                true => self.idle.sample(count, except, rng).collect(),
            };
        }
        // Any idle runner may be the only one with the model in its catalog.
        let mut able = |pool: &RunnerSet, count: usize| -> SmallVec<[Runner; 8]> {
            pool.sample(pool.len(), except, rng)
                .filter(|runner| self.catalogs.may_run(*runner, model))
                .take(count)
                .collect()
        };
        let with_room = able(&self.idle_with_room, 1);
        match with_room.is_empty() {
            true => able(&self.idle, count),
            false => with_room,
        }
    }

    /// Returns whether the runner is idle or busy.
    fn is_live(&self, runner: Runner) -> bool {
        self.get(runner).activity != Activity::Absent
    }

    /// Returns whether a live runner outside `except` may be sent a job that needs the model.
    pub fn has_another(&self, model: Option<Model>, except: Avoid) -> bool {
        let left_out = except
            .iter()
            .filter(|runner| self.is_live(*runner) && self.catalogs.may_run(*runner, model));
        self.catalogs.count_eligible(self.live, model) > left_out.count()
    }

    /// Returns the number of idle runners.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    pub fn is_idle(&self, runner: Runner) -> bool {
        self.get(runner).activity == Activity::Idle
    }

    /// Returns at most `count` idle holders of the model.
    pub fn idle_holders(&self, model: Model, count: usize) -> Vec<Runner> {
        let holders = self.holders.get(model.0 as usize);
        let idle = holders.into_iter().flat_map(|holders| holders.idle.iter());
        idle.take(count).collect()
    }

    fn runner_mut(&mut self, runner: Runner) -> &mut RunnerView {
        let index = runner.0 as usize;
        if index >= self.runners.len() {
            self.runners.resize(index + 1, RunnerView::GONE);
            self.sent.resize(index + 1, None);
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

    /// Updates the indexes: the runner holds the model, or not.
    fn set_holder(&mut self, runner: Runner, model: Model, held: bool) {
        let idle = held && self.is_idle(runner);
        let holders = self.holders_mut(model);
        holders.all.put(runner, held);
        holders.idle.put(runner, idle);
    }

    /// Replaces a runner's cache.
    fn set_cache(&mut self, runner: Runner, cache: &[Model]) {
        // A report usually equals the prediction.
        if self.get(runner).cache.as_slice() == cache {
            return;
        }
        let before = std::mem::take(&mut self.runner_mut(runner).cache);
        for model in before {
            self.set_holder(runner, model, false);
        }
        for &model in cache {
            self.set_holder(runner, model, true);
        }
        self.runner_mut(runner).cache = cache.into();
    }

    /// Sets a runner's activity, after all changes of its cache and slots.
    fn set_activity(&mut self, runner: Runner, activity: Activity) {
        let view = self.runner_mut(runner);
        let was_idle = view.activity == Activity::Idle;
        let was_live = view.activity != Activity::Absent;
        view.activity = activity;
        match (was_live, activity != Activity::Absent) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => {}
        }
        let view = &self.runners[runner.0 as usize];
        let (idle, room) = (activity == Activity::Idle, view.has_room());
        self.idle_with_room.put(runner, idle && room);
        if idle != was_idle {
            self.idle.put(runner, idle);
            let view = &self.runners[runner.0 as usize];
            for model in &view.cache {
                self.holders[model.0 as usize].idle.put(runner, idle);
            }
        }
    }

    /// Marks a runner as idle with this cache.
    pub fn freed(&mut self, runner: Runner, cache: &[Model], slots: usize) {
        self.set_cache(runner, cache);
        self.runner_mut(runner).slots = slots;
        self.forget_send(runner);
        self.set_activity(runner, Activity::Idle);
    }

    /// Removes a runner; returns the models that it held.
    pub fn lost(&mut self, runner: Runner) -> Cache {
        let cache = self.get(runner).cache.clone();
        self.set_cache(runner, &[]);
        self.set_activity(runner, Activity::Absent);
        *self.runner_mut(runner) = RunnerView::GONE;
        self.catalogs.remove(runner);
        self.forget_send(runner);
        cache
    }

    fn forget_send(&mut self, runner: Runner) -> Option<Sent> {
        self.sent.get_mut(runner.0 as usize)?.take()
    }

    /// Marks a runner as busy with a job that the policy did not send.
    pub fn taken(&mut self, runner: Runner, ends_s: f64, run_s: f64) {
        if self.get(runner).activity != Activity::Absent {
            self.set_activity(runner, Activity::Busy { ends_s, run_s });
        }
    }

    /// Marks a runner as busy with `held` until `ends_s`, and predicts its cache.
    pub fn sent(&mut self, runner: Runner, held: HeldJob, now_s: f64, ends_s: f64, run_s: f64) {
        self.set_activity(runner, Activity::Busy { ends_s, run_s });
        let view = self.runner_mut(runner);
        let mut sent = Sent {
            held,
            cache_index: None,
            evicted: None,
            last_swap_s: view.last_swap_s,
        };
        if let Some(model) = held.model {
            sent.cache_index = view.cache.iter().position(|held| *held == model);
            match sent.cache_index {
                Some(place) => {
                    view.cache.remove(place);
                }
                None => {
                    view.last_swap_s = now_s;
                    sent.evicted = view.victim();
                    if sent.evicted.is_some() {
                        view.cache.remove(0);
                    }
                }
            }
            view.cache.push(model);
            if sent.cache_index.is_none() {
                self.set_holder(runner, model, true);
            }
            if let Some(victim) = sent.evicted {
                self.set_holder(runner, victim, false);
            }
        }
        self.sent[runner.0 as usize] = Some(sent);
    }

    /// Undoes a refused send and returns its job. The runner counts as busy until its next report.
    pub fn refused(&mut self, runner: Runner, ends_s: f64, run_s: f64) -> Option<HeldJob> {
        self.undo(runner, Activity::Busy { ends_s, run_s })
    }

    /// Undoes a send that proved unnecessary; the runner is idle as before.
    pub fn unsent(&mut self, runner: Runner) {
        self.undo(runner, Activity::Idle);
    }

    fn undo(&mut self, runner: Runner, activity: Activity) -> Option<HeldJob> {
        let sent = self.forget_send(runner)?;
        let view = self.runner_mut(runner);
        view.last_swap_s = sent.last_swap_s;
        let mut cache = view.cache.clone();
        if let Some(model) = sent.held.model {
            cache.pop();
            match sent.cache_index {
                Some(place) => cache.insert(place, model),
                None => cache.insert_many(0, sent.evicted),
            }
        }
        self.set_cache(runner, &cache);
        self.set_activity(runner, activity);
        Some(sent.held)
    }
}
