//! A small fleet on a virtual clock, which executes the policy's commands and checks each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

pub const LOAD_S: f64 = 10.0;
const RAM_LOAD_S: f64 = 1.0;
const SLOTS: usize = 2;

/// Models that a catalog may list.
pub const LISTED: u32 = 6;

/// A model that a runner listed once, and none lists now.
const FORMER: Model = Model(LISTED);

/// Models that jobs need: the last one was never listed.
pub const MODELS: u32 = LISTED + 2;

/// Rounding of times in the policy's indexes, s.
const ROUNDING_S: f64 = 1e-5;

/// Catalog of each runner; `None` for any model.
pub type CatalogList = Vec<Option<Vec<Model>>>;

/// A fleet to be.
#[derive(Debug, Clone)]
pub struct Runners {
    pub catalogs: CatalogList,
    /// Models that each runner can keep in RAM.
    pub ram_slots: Vec<usize>,
}

/// An input of the world.
#[derive(Debug, Clone)]
pub enum Action {
    Arrive {
        model: Option<u32>,
        low: bool,
        patience_s: f64,
        run_s: f64,
        avoid: Vec<u32>,
    },
    Lose(usize),
    Join(usize),
    Cancel(usize),
    RefuseNext,
}

#[derive(Debug, Clone)]
pub struct RunnerState {
    pub up: bool,
    memory: Memory,
    /// Memory before its last send.
    before: Memory,
    pub running: Option<Running>,
}

impl RunnerState {
    fn tier(&self, model: Option<Model>) -> Tier {
        let Some(model) = model else {
            return Tier::Device;
        };
        if self.memory.cache.contains(&model) {
            Tier::Device
        } else if self.memory.ram.contains(&model) {
            Tier::Ram
        } else {
            Tier::Disk
        }
    }

    /// Loads a model, or marks it as used.
    fn use_model(&mut self, model: Model) {
        let Memory {
            cache,
            ram,
            ram_slots,
            ..
        } = &mut self.memory;
        cache.retain(|held| *held != model);
        ram.retain(|held| *held != model);
        if cache.len() >= SLOTS {
            ram.push(cache.remove(0));
        }
        if ram.len() > *ram_slots {
            ram.remove(0);
        }
        cache.push(model);
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Running {
    job: u64,
    ends_s: f64,
    /// Where its model was.
    tier: Tier,
}

#[derive(Debug, Clone)]
pub struct JobState {
    pub arrival: Arrival,
    run_s: f64,
    held_until_s: Option<f64>,
    /// When its own bound on holding passes, s.
    bound_s: f64,
    /// Until when it waits for a runner outside its avoid list, s.
    avoids_until_s: f64,
    pub gone: bool,
}

impl JobState {
    /// Returns whether it waits.
    fn is_held(&self) -> bool {
        !self.gone && self.held_until_s.is_some()
    }

    /// Updates its times for an arrival.
    fn arrives(&mut self, now_s: f64, constants: &Constants) {
        let wait_s = self.arrival.max_warm_wait_s;
        self.bound_s = match self.arrival.returned {
            true => now_s,
            false => now_s + wait_s,
        };
        self.avoids_until_s = now_s + wait_s.min(constants.theta * LOAD_S);
    }

    /// Returns when it is due, s; D is exact here, since no run is longer than a load.
    fn due_s(&self, constants: &Constants) -> f64 {
        let since_s = self.arrival.since_s;
        match self.arrival.model {
            Some(_) => self.bound_s.min(since_s + constants.overdue * LOAD_S),
            None => since_s,
        }
    }
}

/// Returns the load time of a model that is in this tier, s.
fn load_s(tier: Tier) -> f64 {
    match tier {
        Tier::Device => 0.0,
        Tier::Ram => RAM_LOAD_S,
        Tier::Disk => LOAD_S,
    }
}

/// How long a runner passed over the first due normal job of those that it may serve.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    first: Option<u64>,
    since_s: f64,
    pub longest_s: f64,
}

pub struct World {
    pub policy: Warm,
    constants: Constants,
    pub now_s: f64,
    pub runners: Vec<RunnerState>,
    pub jobs: BTreeMap<u64, JobState>,
    pub refuse_next: bool,
    coin: u64,
    pub passed: Vec<Passed>,
    catalogs: CatalogList,
    /// Models that were ever listed.
    known: BTreeSet<Model>,
}

impl World {
    pub fn new(constants: Constants, fleet: Runners) -> Self {
        let Runners {
            catalogs,
            ram_slots,
        } = fleet;
        let runners = catalogs.len();
        let down = ram_slots.iter().map(|ram_slots| RunnerState {
            up: false,
            memory: Memory {
                slots: SLOTS,
                ram_slots: *ram_slots,
                ..Memory::default()
            },
            before: Memory::default(),
            running: None,
        });
        let mut world = Self {
            policy: Warm::new(constants),
            constants,
            now_s: 0.0,
            runners: down.collect(),
            jobs: BTreeMap::new(),
            refuse_next: false,
            coin: 0,
            passed: vec![Passed::default(); runners],
            catalogs,
            known: BTreeSet::from([FORMER]),
        };
        world.policy.add_known_model(FORMER);
        for runner in 0..runners {
            world.join(runner);
        }
        world
    }

    fn apply(&mut self, event: Event) {
        self.coin += 1;
        let mut refused = Vec::new();
        for command in self.policy.on(self.now_s, event, self.coin) {
            match command {
                Command::Hold(HoldCommand { job, until_s, .. }) => {
                    assert!(until_s >= self.now_s);
                    self.jobs.get_mut(&job.0).unwrap().held_until_s = Some(until_s);
                }
                Command::Send(send) => {
                    self.sent(send.job.0, send.runner.0 as usize, send.tier);
                    if std::mem::take(&mut self.refuse_next) {
                        refused.push(send.runner);
                    }
                }
            }
        }
        self.note_first_due();
        for runner in refused {
            self.refuse(runner);
        }
        self.assert_no_bound_is_missed();
    }

    /// Returns whether the runner may load the model: it lists it or may load any, or no runner
    /// ever listed it.
    pub fn is_able(&self, runner: usize, model: Option<Model>) -> bool {
        match (model, &self.catalogs[runner]) {
            (Some(model), Some(listed)) => listed.contains(&model) || !self.known.contains(&model),
            _ => true,
        }
    }

    /// Returns the live runners that can load the job's model and on which no attempt failed.
    fn others(&self, job: &JobState) -> impl Iterator<Item = usize> {
        let Arrival { model, avoid, .. } = job.arrival;
        let live = (0..self.runners.len()).filter(|runner| self.runners[*runner].up);
        live.filter(move |runner| {
            !avoid.contains(Runner(*runner as u32)) && self.is_able(*runner, model)
        })
    }

    /// Returns whether the runner may serve the job now.
    fn serves(&self, runner: usize, job: &JobState) -> bool {
        let waits = self.now_s < job.avoids_until_s && self.others(job).next().is_some();
        let is_avoided = job.arrival.avoid.contains(Runner(runner as u32));
        self.is_able(runner, job.arrival.model) && !(is_avoided && waits)
    }

    /// Asserts that no idle runner may serve a job whose bound has passed.
    fn assert_no_bound_is_missed(&self) {
        let idle = |runner: &RunnerState| runner.up && runner.running.is_none();
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.is_held()) {
            let is_over = |time_s: f64| time_s + ROUNDING_S < self.now_s;
            if !is_over(job.bound_s) {
                continue;
            }
            for (runner, _) in (self.runners.iter().enumerate()).filter(|(_, state)| idle(state)) {
                let avoided = job.arrival.avoid.contains(Runner(runner as u32));
                // At exactly that time the deadline has not fired yet.
                let turns = self.now_s <= job.avoids_until_s + ROUNDING_S;
                let may = self.serves(runner, job) && !(avoided && turns);
                assert!(
                    !may,
                    "job {id} is past its bound, and runner {runner} is idle"
                );
            }
        }
    }

    fn sent(&mut self, id: u64, runner: usize, tier: Tier) {
        let job = self.jobs[&id].clone();
        assert!(!job.gone, "job {id} was sent before");
        let target = self.runners[runner].clone();
        assert!(target.up, "runner {runner} is lost");
        assert!(target.running.is_none(), "runner {runner} is busy");
        self.assert_fits(id, runner);
        assert_eq!(tier, target.tier(job.arrival.model), "tier of job {id}");
        if job.arrival.priority == Priority::Low {
            for (other, state) in &self.jobs {
                let Some(until_s) = state.held_until_s else {
                    continue;
                };
                let normal = state.arrival.priority == Priority::Normal;
                let model = state.arrival.model;
                let is_held_in = |tier| {
                    let mut tiers = self.runners.iter().map(|runner| runner.tier(model));
                    tiers.any(|held| held == tier)
                };
                // A job for which RAM elsewhere is enough may wait for it.
                let is_next = match target.tier(model) {
                    Tier::Device => true,
                    Tier::Ram => !is_held_in(Tier::Device),
                    Tier::Disk => !is_held_in(Tier::Device) && !is_held_in(Tier::Ram),
                };
                let takes = (is_next || until_s <= self.now_s) && self.serves(runner, state);
                assert!(
                    state.gone || !normal || !takes,
                    "low job {id} went before normal job {other}"
                );
            }
        }
        self.assert_due_jobs_go_first(id, runner);
        let target = &mut self.runners[runner];
        target.before.clone_from(&target.memory);
        if let Some(model) = job.arrival.model {
            target.use_model(model);
        }
        target.running = Some(Running {
            job: id,
            ends_s: self.now_s + load_s(tier) + job.run_s,
            tier,
        });
        let state = self.jobs.get_mut(&id).unwrap();
        state.gone = true;
        state.held_until_s = None;
    }

    /// Asserts that the runner can load the job's model, and that no attempt failed on it while
    /// another runner is live.
    fn assert_fits(&self, id: u64, runner: usize) {
        let job = &self.jobs[&id];
        assert!(
            self.is_able(runner, job.arrival.model),
            "job {id} needs a model that runner {runner} does not list"
        );
        assert!(
            self.serves(runner, job),
            "job {id} failed on runner {runner}, and another is live"
        );
        if job.arrival.avoid.contains(Runner(runner as u32)) {
            let mut others = self.others(job);
            assert!(
                others.all(|other| self.runners[other].running.is_some()),
                "job {id} failed on runner {runner}, and another is idle"
            );
        }
    }

    /// Asserts that the send passes no job of the same lane that was due before and that the runner
    /// may serve.
    fn assert_due_jobs_go_first(&self, id: u64, runner: usize) {
        let sent = &self.jobs[&id];
        let (since_s, due_s) = (sent.arrival.since_s, sent.due_s(&self.constants));
        for (other, state) in &self.jobs {
            let is_other = *other != id && state.arrival.priority == sent.arrival.priority;
            if !(is_other && state.is_held() && self.serves(runner, state)) {
                continue;
            }
            if state.bound_s + ROUNDING_S < self.now_s {
                assert!(
                    due_s <= state.bound_s + ROUNDING_S,
                    "job {id} passed job {other}, whose bound had passed"
                );
            }
            if state.arrival.model.is_none() {
                assert!(
                    since_s.min(due_s) <= state.arrival.since_s + ROUNDING_S,
                    "job {id} passed job {other}, an older one without hint"
                );
            }
        }
    }

    /// Refuses a claim: the runner is busy for a while with a model that it holds.
    fn refuse(&mut self, runner: Runner) {
        let target = &mut self.runners[runner.0 as usize];
        let refused = target.running.take().unwrap();
        target.memory.clone_from(&target.before);
        target.running = Some(Running {
            job: u64::MAX,
            ends_s: self.now_s + 1.0,
            tier: Tier::Device,
        });
        self.jobs.get_mut(&refused.job).unwrap().gone = false;
        self.apply(Event::Refused { runner });
    }

    fn note_first_due(&mut self) {
        for runner in 0..self.runners.len() {
            self.note_first_due_for(runner);
        }
    }

    fn note_first_due_for(&mut self, runner: usize) {
        let held = self
            .jobs
            .iter()
            .filter(|(_, job)| job.arrival.priority == Priority::Normal)
            .filter(|(_, job)| job.is_held() && self.serves(runner, job));
        let due = held.map(|(id, job)| (*id, job.due_s(&self.constants)));
        let first = due.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let passed = &mut self.passed[runner];
        if first.map(|(id, _)| id) != passed.first {
            passed.first = first.map(|(id, _)| id);
            passed.since_s = self.now_s;
        }
        // Jobs without hint are sent in order of age, among older ones that are not due: checked at
        // each send.
        if let Some((id, due_s)) = first
            && self.jobs[&id].arrival.model.is_some()
        {
            let passed_s = self.now_s - passed.since_s.max(due_s);
            passed.longest_s = passed.longest_s.max(passed_s);
        }
    }

    fn free(&mut self, runner: usize, ran: Option<RunObservation>) {
        self.apply(Event::Freed(Freed {
            runner: Runner(runner as u32),
            memory: self.runners[runner].memory.clone(),
            ran,
        }));
    }

    pub fn join(&mut self, runner: usize) {
        if !self.runners[runner].up {
            let catalog = self.catalogs[runner].clone();
            self.known.extend(catalog.iter().flatten());
            let number = Runner(runner as u32);
            self.apply(Event::Joined {
                runner: number,
                catalog,
            });
            self.runners[runner].up = true;
            self.free(runner, None);
        }
    }

    fn mark_lost(&mut self, runner: usize) {
        if !self.runners[runner].up {
            return;
        }
        let running = self.runners[runner].running.take();
        self.runners[runner].up = false;
        self.runners[runner].memory.cache.clear();
        self.runners[runner].memory.ram.clear();
        self.apply(Event::Lost {
            runner: Runner(runner as u32),
        });
        if let Some(job) = running.and_then(|running| self.jobs.get_mut(&running.job)) {
            job.gone = false;
            (job.arrival.returned, job.arrival.avoid) =
                (true, Avoid::from_iter([Runner(runner as u32)]));
            job.arrives(self.now_s, &self.constants);
            let arrival = job.arrival;
            self.apply(Event::Arrived(arrival));
        }
    }

    /// Advances the clock, with the ends of runs and the deadlines until then.
    pub fn advance(&mut self, until_s: f64) {
        loop {
            let ends = self
                .runners
                .iter()
                .enumerate()
                .filter_map(|(index, state)| Some((state.running?.ends_s, Some(index))));
            let due = self.policy.next_deadline_s().map(|due_s| (due_s, None));
            let next = ends.chain(due).min_by(|(a, _), (b, _)| a.total_cmp(b));
            let Some((at_s, what)) = next.filter(|(at_s, _)| *at_s <= until_s) else {
                break;
            };
            self.now_s = self.now_s.max(at_s);
            match what {
                None => self.apply(Event::Due),
                Some(index) => self.end(index),
            }
        }
        self.now_s = self.now_s.max(until_s);
    }

    /// Ends a runner's job.
    fn end(&mut self, index: usize) {
        let ended = self.runners[index].running.take().unwrap();
        let ran = self.jobs.get(&ended.job).and_then(|job| {
            Some(RunObservation {
                model: job.arrival.model?,
                run_s: job.run_s,
                load_s: (ended.tier != Tier::Device).then(|| load_s(ended.tier)),
                from_ram: ended.tier == Tier::Ram,
            })
        });
        self.free(index, ran);
    }

    pub fn perform(&mut self, action: &Action) {
        match action.clone() {
            Action::Arrive {
                model,
                low,
                patience_s,
                run_s,
                avoid,
            } => {
                let id = self.jobs.len() as u64;
                let arrival = Arrival {
                    job: Job(id),
                    model: model.map(Model),
                    priority: if low { Priority::Low } else { Priority::Normal },
                    owner: Owner::default(),
                    since_s: self.now_s,
                    max_warm_wait_s: patience_s,
                    returned: !avoid.is_empty(),
                    avoid: avoid.into_iter().map(Runner).collect(),
                };
                let mut job = JobState {
                    arrival,
                    run_s,
                    held_until_s: None,
                    bound_s: 0.0,
                    avoids_until_s: 0.0,
                    gone: false,
                };
                job.arrives(self.now_s, &self.constants);
                self.jobs.insert(id, job);
                self.apply(Event::Arrived(arrival));
            }
            Action::Lose(runner) => self.mark_lost(runner % self.runners.len()),
            Action::Join(runner) => self.join(runner % self.runners.len()),
            Action::Cancel(number) => {
                if let Some((id, job)) = self.jobs.iter_mut().nth(number)
                    && job.held_until_s.take().is_some()
                {
                    job.gone = true;
                    let job = Job(*id);
                    self.apply(Event::Cancelled { job });
                }
            }
            Action::RefuseNext => self.refuse_next = true,
        }
    }
}
