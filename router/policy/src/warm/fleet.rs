//! The policy's view of the runners: idle ones, holders of models, expected ends of busy ones. The
//! memory after a send is predicted (the least recently used model is evicted, into RAM if the
//! runner keeps models there); a freed runner's report replaces the prediction.

use smallvec::SmallVec;
use warmq_types::tier::Tier;

use super::catalogs::Catalogs;
use super::event::{Avoid, Memory, Model, Runner};
use super::holders::HolderIndex;
use super::rng::SplitMix64;
use super::runner_set::RunnerSet;
use super::window::HeldJob;

/// Models that a runner has in one tier, least recently used first. The usual few are stored
/// inline.
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
#[derive(Debug, Clone)]
struct Sent {
    held: HeldJob,
    /// Tier of the job's model before the send; the device without hint.
    tier: Tier,
    /// Memory before the send.
    cache: Cache,
    ram: Cache,
    last_swap_s: f64,
}

#[derive(Debug, Clone)]
pub struct RunnerView {
    pub activity: Activity,
    /// Models on the device or being loaded, least recently used first.
    pub cache: Cache,
    /// Number of models that the device can hold.
    pub slots: usize,
    /// Models in RAM, least recently used first; none of them is on the device.
    pub ram: Cache,
    /// Number of models that its RAM can hold.
    pub ram_slots: usize,
    /// Time of the last send of a cold job, s.
    pub last_swap_s: f64,
}

impl RunnerView {
    const GONE: Self = Self {
        activity: Activity::Absent,
        cache: SmallVec::new_const(),
        slots: 0,
        ram: SmallVec::new_const(),
        ram_slots: 0,
        last_swap_s: f64::NEG_INFINITY,
    };

    /// Returns where the runner has a model.
    pub fn tier(&self, model: Model) -> Tier {
        if self.cache.contains(&model) {
            Tier::Device
        } else if self.ram.contains(&model) {
            Tier::Ram
        } else {
            Tier::Disk
        }
    }

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

    /// Returns whether an evicted model stays in RAM.
    pub fn keeps_victims(&self) -> bool {
        self.ram_slots > 0
    }

    /// Returns the model that leaves RAM if another one enters it.
    pub fn ram_victim(&self) -> Option<Model> {
        match self.ram.len() < self.ram_slots {
            true => None,
            false => self.ram.first().copied(),
        }
    }

    /// Returns the memory after a run of `model`: as a runner evicts.
    fn after_run(&self, model: Model) -> (Cache, Cache) {
        let (mut cache, mut ram) = (self.cache.clone(), self.ram.clone());
        match cache.iter().position(|held| *held == model) {
            Some(index) => {
                cache.remove(index);
            }
            None => {
                ram.retain(|held| *held != model);
                if let Some(victim) = self.victim() {
                    cache.remove(0);
                    if self.keeps_victims() {
                        ram.push(victim);
                    }
                    if ram.len() > self.ram_slots {
                        ram.remove(0);
                    }
                }
            }
        }
        cache.push(model);
        (cache, ram)
    }
}

/// The runners of one app.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    runners: Vec<RunnerView>,
    /// The last refusable send to each runner; stored apart, since few reads need it.
    sent: Vec<Option<Sent>>,
    /// Runners with a model on their device.
    pub holders: HolderIndex,
    /// Runners with a model in RAM.
    pub ram_holders: HolderIndex,
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
        let sent = self.sent.get(runner.0 as usize).and_then(Option::as_ref);
        match (self.get(runner).activity, sent) {
            (Activity::Busy { ends_s, run_s }, Some(sent)) => {
                sent.held.model == Some(model)
                    && sent.tier != Tier::Device
                    && ends_s - run_s > now_s
            }
            _ => false,
        }
    }

    /// n(m): number of runners that have the model on their device or are loading it.
    pub fn copies(&self, model: Model) -> usize {
        self.holders.count(model)
    }

    /// Returns a random idle holder of the model outside `except` that may be sent a job for it.
    pub fn idle_holder(&self, model: Model, except: Avoid, rng: &mut SplitMix64) -> Option<Runner> {
        let idle = self.holders.idle(model)?;
        self.able(idle, Some(model), 1, except, rng).next()
    }

    /// Returns up to `count` idle runners outside `except` with the model in RAM that may be sent a
    /// job for it.
    pub fn idle_ram_holders(
        &self,
        model: Model,
        count: usize,
        except: Avoid,
        rng: &mut SplitMix64,
    ) -> SmallVec<[Runner; 8]> {
        let idle = self.ram_holders.idle(model);
        let able = idle.map(|idle| self.able(idle, Some(model), count, except, rng));
        able.into_iter().flatten().collect()
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
        let with_room = self
            .able(&self.idle_with_room, model, 1, except, rng)
            .next();
        match with_room {
            Some(runner) => SmallVec::from_iter([runner]),
            None => self.able(&self.idle, model, count, except, rng).collect(),
        }
    }

    /// Returns up to `count` runners of a set outside `except` that may be sent a job for the
    /// model.
    fn able<'a>(
        &'a self,
        set: &'a RunnerSet,
        model: Option<Model>,
        count: usize,
        except: Avoid,
        rng: &mut SplitMix64,
    ) -> impl Iterator<Item = Runner> + use<'a> {
        // With catalogs any runner may be the only one that lists the model.
        let is_random = set.len() > count || !self.catalogs.are_unlimited();
        set.around(is_random, except, rng)
            .filter(move |runner| self.catalogs.may_run(*runner, model))
            .take(count)
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

    /// Returns the number of runners that are idle or busy.
    pub fn live_count(&self) -> usize {
        self.live
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
        let idle = self.holders.idle(model).into_iter();
        idle.flat_map(RunnerSet::iter).take(count).collect()
    }

    fn runner_mut(&mut self, runner: Runner) -> &mut RunnerView {
        let index = runner.0 as usize;
        if index >= self.runners.len() {
            self.runners.resize(index + 1, RunnerView::GONE);
            self.sent.resize(index + 1, None);
        }
        &mut self.runners[index]
    }

    /// Replaces the models that a runner holds.
    fn set_models(&mut self, runner: Runner, cache: &[Model], ram: &[Model]) {
        let idle = self.is_idle(runner);
        let view = self.runner_mut(runner);
        // A report usually equals the prediction.
        if view.cache.as_slice() != cache {
            let before = std::mem::replace(&mut view.cache, cache.into());
            replace(&mut self.holders, runner, &before, cache, idle);
        }
        let view = &mut self.runners[runner.0 as usize];
        if view.ram.as_slice() != ram {
            let before = std::mem::replace(&mut view.ram, ram.into());
            replace(&mut self.ram_holders, runner, &before, ram, idle);
        }
    }

    /// Sets a runner's activity, after all changes of its models and slots.
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
            for model in &view.cache {
                self.holders.set_idle(*model, runner, idle);
            }
            for model in &view.ram {
                self.ram_holders.set_idle(*model, runner, idle);
            }
        }
    }

    /// Marks a runner as idle with these models.
    pub fn freed(&mut self, runner: Runner, memory: &Memory) {
        self.set_models(runner, &memory.cache, &memory.ram);
        let view = self.runner_mut(runner);
        (view.slots, view.ram_slots) = (memory.slots, memory.ram_slots);
        self.forget_send(runner);
        self.set_activity(runner, Activity::Idle);
    }

    /// Removes a runner; returns the models that it held, in both tiers.
    pub fn lost(&mut self, runner: Runner) -> Cache {
        let view = self.get(runner);
        let models = view.cache.iter().chain(&view.ram).copied().collect();
        self.set_models(runner, &[], &[]);
        self.set_activity(runner, Activity::Absent);
        *self.runner_mut(runner) = RunnerView::GONE;
        self.catalogs.remove(runner);
        self.forget_send(runner);
        models
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

    /// Marks a runner as busy with `held` until `ends_s`, and predicts its memory.
    pub fn sent(&mut self, runner: Runner, held: HeldJob, now_s: f64, ends_s: f64, run_s: f64) {
        self.set_activity(runner, Activity::Busy { ends_s, run_s });
        let view = self.runner_mut(runner);
        let sent = Sent {
            held,
            tier: held.model.map_or(Tier::Device, |model| view.tier(model)),
            cache: view.cache.clone(),
            ram: view.ram.clone(),
            last_swap_s: view.last_swap_s,
        };
        if sent.tier != Tier::Device {
            view.last_swap_s = now_s;
        }
        if let Some(model) = held.model {
            let (cache, ram) = view.after_run(model);
            self.set_models(runner, &cache, &ram);
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
        self.runner_mut(runner).last_swap_s = sent.last_swap_s;
        self.set_models(runner, &sent.cache, &sent.ram);
        self.set_activity(runner, activity);
        Some(sent.held)
    }
}

/// Updates an index for a runner that held `before` and holds `after`.
fn replace(index: &mut HolderIndex, runner: Runner, before: &[Model], after: &[Model], idle: bool) {
    for model in before.iter().filter(|model| !after.contains(model)) {
        index.set(*model, runner, false, false);
    }
    for model in after.iter().filter(|model| !before.contains(model)) {
        index.set(*model, runner, true, idle);
    }
}
