//! The simulation itself.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp};
use warmq_policy::warm::Constants;
use warmq_types::tier::Tier;

use super::clock::Clock;
use super::fleet::{Fleet, RunnerState};
use super::outcome::{JobRun, Outcome, Tally};
use crate::args::Options;
use crate::schemes::{self, Scheme};
use crate::workload::{self, Planned, Workload, stream};

/// Time until a message to a failed runner is returned, s.
const REFUSAL_S: f64 = 0.01;

/// A job as schemes see it, without its run time.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Its number.
    pub id: usize,
    /// The model.
    pub model: u32,
    /// Its owner's number.
    pub owner: u32,
    /// First arrival, s.
    pub since_s: f64,
    /// Whether the job returned because its runner failed.
    pub returned: bool,
}

/// Sends a job to a runner's queue.
#[derive(Debug, Clone, Copy)]
pub struct Assignment {
    /// The job's number.
    pub job: usize,
    /// The runner's number.
    pub runner: usize,
}

/// The view of a scheme during a decision, and its decisions.
#[derive(Debug)]
pub struct SchemeContext<'a> {
    /// The present, s.
    pub now_s: f64,
    /// The current runners. Schemes that decide by reports use only queue lengths of them.
    pub fleet: &'a Fleet,
    /// The decisions.
    pub sends: Vec<Assignment>,
    rng: &'a mut ChaCha8Rng,
}

impl SchemeContext<'_> {
    /// Draws random bits.
    pub fn coin(&mut self) -> u64 {
        workload::coin(self.rng)
    }

    /// Draws a number below `count`, which is greater than 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.coin()) * count as u128) >> 64) as usize
    }

    /// Sends a job to a runner's queue.
    pub fn send(&mut self, job: usize, runner: usize) {
        self.sends.push(Assignment { job, runner });
    }
}

/// A finished job as its runner reports it.
#[derive(Debug, Clone, Copy)]
pub struct CompletedRun {
    /// The model.
    pub model: u32,
    /// Run time, s.
    pub run_s: f64,
    /// Where the model was before.
    pub tier: Tier,
    /// Load time of the model, s; `None` if it was loaded.
    pub load_s: Option<f64>,
}

/// A runner's report.
#[derive(Debug, Clone)]
pub enum Report {
    /// The runner is idle.
    Freed {
        /// The models that it holds, least recently used first.
        cache: Vec<u32>,
        /// Those in RAM.
        ram: Vec<u32>,
        /// The job that it ran; `None` when it joins.
        ran: Option<CompletedRun>,
    },
    /// The runner loaded its job's model. Routers receive this only when the job has ended.
    Loaded,
    /// The runner failed.
    Lost,
}

#[derive(Debug)]
enum SimEvent {
    Arrival(Planned),
    Loaded { runner: usize, incarnation: u32 },
    Ended { runner: usize, incarnation: u32 },
    Reported { runner: usize, report: Report },
    Refused { job: usize, runner: usize },
    Failed { runner: usize },
    Repaired { runner: usize },
    Due,
}

#[derive(Debug)]
struct JobState {
    job: Job,
    run_s: f64,
    /// Where its model was at its last start.
    tier: Tier,
    run: JobRun,
}

struct World<'a> {
    options: &'a Options,
    clock: Clock<SimEvent>,
    now_s: f64,
    fleet: Fleet,
    jobs: Vec<JobState>,
    /// Arrived and not ended.
    in_system: usize,
    /// Planned and not arrived.
    to_come: usize,
    first_measured: usize,
    workload: Workload,
    scheme: &'a mut dyn Scheme,
    next_due_s: f64,
    coins: ChaCha8Rng,
    failures: ChaCha8Rng,
    tally: Tally,
}

/// The measures, and the run of each job that arrived, in order of arrival.
#[derive(Debug)]
pub struct History {
    /// The measures.
    pub outcome: Outcome,
    /// The jobs.
    pub jobs: Vec<JobRun>,
}

/// Runs one simulation.
pub fn simulate(options: &Options) -> Result<Outcome, workload::Error> {
    let workload = Workload::of(options)?;
    let mut scheme = schemes::make(options, workload.models(), &Constants::default());
    Ok(run(options, workload, scheme.as_mut(), options.seed).outcome)
}

/// Runs a workload under a scheme. `seed`: of all randomness other than the workload.
pub fn run(options: &Options, workload: Workload, scheme: &mut dyn Scheme, seed: u64) -> History {
    let runners = options.runners as usize;
    let (slots, ram_slots) = (options.slots as usize, options.ram_slots as usize);
    let first_measured = (workload.left() as f64 * options.drop) as usize;
    let mut world = World {
        options,
        clock: Clock::new(),
        now_s: 0.0,
        fleet: Fleet::new(runners, slots, ram_slots),
        jobs: Vec::with_capacity(workload.left()),
        in_system: 0,
        to_come: 0,
        first_measured,
        workload,
        scheme,
        next_due_s: f64::INFINITY,
        coins: stream(seed, 1),
        failures: stream(seed, 2),
        tally: Tally::default(),
    };
    let stable = world.run();
    let outcome = world
        .tally
        .outcome(runners, options.service_s, world.now_s, stable);
    let jobs = world.jobs.into_iter().map(|state| state.run).collect();
    History { outcome, jobs }
}

impl World<'_> {
    /// Runs until all jobs have ended. Returns false if they pile up.
    fn run(&mut self) -> bool {
        let runners = self.fleet.runners.len();
        for runner in 0..runners {
            self.join(runner);
        }
        let first = if self.options.closed { 4 * runners } else { 1 };
        for _ in 0..first {
            self.plan_arrival();
        }
        while let Some((at_s, event)) = self.clock.next() {
            self.now_s = at_s;
            self.handle(event);
            if self.in_system > 300 * runners + 3000 {
                return false;
            }
            if self.in_system == 0 && self.arrivals_are_over() {
                break;
            }
        }
        true
    }

    /// Adds a runner with an empty cache, and plans its failure.
    fn join(&mut self, runner: usize) {
        self.notify(
            runner,
            Report::Freed {
                cache: Vec::new(),
                ram: Vec::new(),
                ran: None,
            },
        );
        self.plan_failure(runner);
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            SimEvent::Arrival(planned) => self.arrival(planned),
            SimEvent::Loaded {
                runner,
                incarnation,
            } => {
                if self.fleet.runners[runner].incarnation == incarnation {
                    self.notify(runner, Report::Loaded);
                }
            }
            SimEvent::Ended {
                runner,
                incarnation,
            } => {
                if self.fleet.runners[runner].incarnation == incarnation {
                    self.ended(runner);
                }
            }
            SimEvent::Reported { runner, report } => self.report(runner, &report),
            SimEvent::Refused { job, runner } => {
                let job = self.jobs[job].job;
                self.call_scheme(|scheme, context| scheme.on_refusal(&job, runner, context));
            }
            SimEvent::Failed { runner } => self.failed(runner),
            SimEvent::Repaired { runner } => {
                self.fleet.runners[runner].up = true;
                self.join(runner);
            }
            SimEvent::Due => {
                if self.next_due_s <= self.now_s {
                    self.next_due_s = f64::INFINITY;
                    self.call_scheme(|scheme, context| scheme.on_due(context));
                }
            }
        }
    }

    /// Returns the load time of a model that is in this tier, s.
    fn load_s(&self, tier: Tier) -> f64 {
        let ratio = match tier {
            Tier::Device => 0.0,
            Tier::Ram => self.options.ram_load_ratio,
            Tier::Disk => self.options.load_ratio,
        };
        ratio * self.options.service_s
    }

    fn arrivals_are_over(&self) -> bool {
        self.workload.left() == 0 && self.to_come == 0
    }

    fn plan_arrival(&mut self) {
        if let Some(mut planned) = self.workload.next() {
            if self.options.closed {
                planned.at_s = self.now_s;
            }
            self.to_come += 1;
            self.clock.plan(planned.at_s, SimEvent::Arrival(planned));
        }
    }

    fn arrival(&mut self, planned: Planned) {
        let job = Job {
            id: self.jobs.len(),
            model: planned.model,
            owner: planned.owner,
            since_s: self.now_s,
            returned: false,
        };
        self.jobs.push(JobState {
            job,
            run_s: planned.run_s,
            tier: Tier::Disk,
            run: JobRun {
                arrived_s: self.now_s,
                ended_s: None,
                warm: None,
            },
        });
        self.to_come -= 1;
        self.in_system += 1;
        if job.id == self.first_measured {
            self.tally.from_s = Some(self.now_s);
        }
        if !self.options.closed {
            self.plan_arrival();
        }
        if self.arrivals_are_over() && self.tally.to_s.is_none() {
            self.tally.to_s = Some(self.now_s);
        }
        self.call_scheme(|scheme, context| scheme.on_arrival(&job, context));
    }

    /// Calls the scheme and executes its decisions.
    fn call_scheme(&mut self, call: impl FnOnce(&mut dyn Scheme, &mut SchemeContext<'_>)) {
        let mut context = SchemeContext {
            now_s: self.now_s,
            fleet: &self.fleet,
            sends: Vec::new(),
            rng: &mut self.coins,
        };
        call(self.scheme, &mut context);
        for Assignment { job, runner } in context.sends {
            let state = &mut self.fleet.runners[runner];
            if state.up {
                state.queue.push_back(job);
                if state.running.is_none() {
                    self.start_next(runner);
                }
            } else {
                // The scheme has not received the failure yet.
                let at_s = self.now_s + REFUSAL_S;
                self.clock.plan(at_s, SimEvent::Refused { job, runner });
            }
        }
        if let Some(due_s) = self
            .scheme
            .next_due_s()
            .filter(|due| *due < self.next_due_s)
        {
            self.next_due_s = due_s;
            self.clock.plan(due_s.max(self.now_s), SimEvent::Due);
        }
    }

    fn start_next(&mut self, runner: usize) {
        let Some(id) = self.fleet.runners[runner].queue.pop_front() else {
            return;
        };
        let (model, run_s) = (self.jobs[id].job.model, self.jobs[id].run_s);
        let tier = self.fleet.use_model(runner, model);
        let load_s = self.load_s(tier);
        let warm = tier == Tier::Device;
        self.jobs[id].tier = tier;
        self.jobs[id].run.warm = Some(warm);
        let count = match id >= self.first_measured {
            true => &mut self.tally.starts,
            false => &mut self.tally.early_starts,
        };
        count.jobs += 1;
        count.swaps += u64::from(!warm);
        count.load_s += load_s;
        let mut ends_s = self.now_s + run_s;
        let state = &mut self.fleet.runners[runner];
        state.running = Some(id);
        let incarnation = state.incarnation;
        if !warm {
            let loaded_s = self.now_s + load_s;
            ends_s += load_s;
            self.clock.plan(
                loaded_s,
                SimEvent::Loaded {
                    runner,
                    incarnation,
                },
            );
        }
        self.clock.plan(
            ends_s,
            SimEvent::Ended {
                runner,
                incarnation,
            },
        );
    }

    fn ended(&mut self, runner: usize) {
        let Some(id) = self.fleet.runners[runner].running.take() else {
            return;
        };
        let tier = self.jobs[id].tier;
        let load_s = self.load_s(tier);
        let state = &mut self.jobs[id];
        state.run.ended_s = Some(self.now_s);
        self.in_system -= 1;
        let ran = CompletedRun {
            model: state.job.model,
            run_s: state.run_s,
            tier,
            load_s: (tier != Tier::Device).then_some(load_s),
        };
        let time_s = self.now_s - state.job.since_s;
        match id >= self.first_measured {
            true => self.tally.times_s.push(time_s),
            false => self.tally.early_times_s.push(time_s),
        }
        if self.tally.to_s.is_none() {
            match self.tally.from_s {
                Some(_) => self.tally.completions += 1,
                None => self.tally.early_completions += 1,
            }
        }
        if self.options.closed {
            self.plan_arrival();
        }
        self.start_next(runner);
        if self.fleet.runners[runner].running.is_none() {
            let RunnerState { cache, ram, .. } = self.fleet.runners[runner].clone();
            self.notify(
                runner,
                Report::Freed {
                    cache,
                    ram,
                    ran: Some(ran),
                },
            );
        } else {
            self.call_scheme(|scheme, context| scheme.on_progress(context));
        }
    }

    fn plan_failure(&mut self, runner: usize) {
        let law = self
            .options
            .mtbf_s
            .and_then(|mean| Exp::new(1.0 / mean).ok());
        if let Some(law) = law {
            let after_s = law.sample(&mut self.failures);
            self.clock
                .plan(self.now_s + after_s, SimEvent::Failed { runner });
        }
    }

    fn failed(&mut self, runner: usize) {
        let state = &mut self.fleet.runners[runner];
        state.up = false;
        state.incarnation += 1;
        state.cache.clear();
        state.ram.clear();
        let back: Vec<usize> = state
            .running
            .take()
            .into_iter()
            .chain(state.queue.drain(..))
            .collect();
        self.notify(runner, Report::Lost);
        for id in back {
            let job = &mut self.jobs[id].job;
            job.returned = true;
            let job = *job;
            self.call_scheme(|scheme, context| scheme.on_arrival(&job, context));
        }
        let repaired_s = self.now_s + self.options.repair_s;
        self.clock.plan(repaired_s, SimEvent::Repaired { runner });
    }

    /// Reports to the scheme, after the delay of its view.
    fn notify(&mut self, runner: usize, report: Report) {
        let delay_s = self.options.view_delay_ms / 1000.0;
        if delay_s > 0.0 && self.scheme.learns_by_reports() {
            let at_s = self.now_s + delay_s;
            self.clock.plan(at_s, SimEvent::Reported { runner, report });
        } else {
            self.report(runner, &report);
        }
    }

    fn report(&mut self, runner: usize, report: &Report) {
        self.call_scheme(|scheme, context| scheme.on_report(runner, report, context));
    }
}
