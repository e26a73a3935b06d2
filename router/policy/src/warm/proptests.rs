//! What holds whatever happens: a small fleet on a virtual clock, driven by arbitrary arrivals,
//! losses, refusals and cancellations, checks every command. Runners list models, or may load any;
//! some jobs have runners to avoid.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warmq_types::job::Priority;

use super::*;

const LOAD_S: f64 = 10.0;
const SLOTS: usize = 2;

/// Models that a catalog may list.
const LISTED: u32 = 6;

/// A model that a runner listed once, and none does now.
const FORMER: Model = Model(LISTED);

/// Models that jobs need: the last one was never listed.
const MODELS: u32 = LISTED + 2;

/// Rounding of times in the policy's indexes, s.
const ROUNDING_S: f64 = 1e-5;

/// What each runner lists; `None`: any model.
type CatalogList = Vec<Option<Vec<Model>>>;

#[derive(Debug, Clone)]
enum Step {
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
struct RunnerState {
    up: bool,
    cache: Vec<Model>,
    /// What it held before it was sent its last job.
    before: Vec<Model>,
    running: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    job: u64,
    ends_s: f64,
    /// It loads its model first.
    cold: bool,
}

#[derive(Debug, Clone)]
struct JobState {
    arrival: Arrival,
    run_s: f64,
    held_until_s: Option<f64>,
    /// When its own bound on holding passes.
    bound_s: f64,
    /// When its patience with runners to avoid is over.
    avoids_until_s: f64,
    gone: bool,
}

impl JobState {
    /// It waits.
    fn is_held(&self) -> bool {
        !self.gone && self.held_until_s.is_some()
    }

    /// It comes, or comes again.
    fn comes(&mut self, now_s: f64, constants: &Constants) {
        let wait_s = self.arrival.max_warm_wait_s;
        self.bound_s = match self.arrival.returned {
            true => now_s,
            false => now_s + wait_s,
        };
        self.avoids_until_s = now_s + wait_s.min(constants.theta * LOAD_S);
    }

    /// When it is due, s; D is exact here, as no run is longer than a load.
    fn due_s(&self, constants: &Constants) -> f64 {
        let since_s = self.arrival.since_s;
        match self.arrival.model {
            Some(_) => self.bound_s.min(since_s + constants.overdue * LOAD_S),
            None => since_s,
        }
    }
}

/// Time for which a runner passed over the normal job that was due first of those that it may
/// serve, and is due.
#[derive(Debug, Clone, Default)]
struct Passed {
    first: Option<u64>,
    since_s: f64,
    longest_s: f64,
}

struct World {
    policy: Warm,
    constants: Constants,
    now_s: f64,
    runners: Vec<RunnerState>,
    jobs: BTreeMap<u64, JobState>,
    refuse_next: bool,
    coin: u64,
    passed: Vec<Passed>,
    catalogs: CatalogList,
    /// Models that were ever listed.
    known: BTreeSet<Model>,
}

impl World {
    fn new(constants: Constants, catalogs: CatalogList) -> Self {
        let runners = catalogs.len();
        let down = RunnerState {
            up: false,
            cache: Vec::new(),
            before: Vec::new(),
            running: None,
        };
        let mut world = Self {
            policy: Warm::new(constants),
            constants,
            now_s: 0.0,
            runners: vec![down; runners],
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

    fn tell(&mut self, event: Event) {
        self.coin += 1;
        let mut refused = Vec::new();
        for command in self.policy.on(self.now_s, event, self.coin) {
            match command {
                Command::Hold { job, until_s, .. } => {
                    assert!(until_s >= self.now_s);
                    self.jobs.get_mut(&job.0).unwrap().held_until_s = Some(until_s);
                }
                Command::Send {
                    job, runner, warm, ..
                } => {
                    self.sent(job.0, runner.0 as usize, warm);
                    if std::mem::take(&mut self.refuse_next) {
                        refused.push((job.0, runner));
                    }
                }
            }
        }
        self.note_first_due();
        for (_, runner) in refused {
            self.refuse(runner);
        }
        self.assert_no_bound_is_missed();
    }

    /// The runner lists the model, or may load any, or no runner ever listed it.
    fn is_able(&self, runner: usize, model: Option<Model>) -> bool {
        match (model, &self.catalogs[runner]) {
            (Some(model), Some(listed)) => listed.contains(&model) || !self.known.contains(&model),
            _ => true,
        }
    }

    /// Live runners that can load the job's model, and on which no attempt of it failed.
    fn others(&self, job: &JobState) -> impl Iterator<Item = usize> {
        let Arrival { model, avoid, .. } = job.arrival;
        let live = (0..self.runners.len()).filter(|runner| self.runners[*runner].up);
        live.filter(move |runner| {
            !avoid.contains(Runner(*runner as u32)) && self.is_able(*runner, model)
        })
    }

    /// The runner may serve the job now.
    fn serves(&self, runner: usize, job: &JobState) -> bool {
        let waits = self.now_s < job.avoids_until_s && self.others(job).next().is_some();
        let is_avoided = job.arrival.avoid.contains(Runner(runner as u32));
        self.is_able(runner, job.arrival.model) && !(is_avoided && waits)
    }

    /// No runner is idle that may serve a job whose bound has passed.
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

    fn sent(&mut self, id: u64, runner: usize, warm: bool) {
        let job = self.jobs[&id].clone();
        assert!(!job.gone, "job {id} is not there any more");
        let target = self.runners[runner].clone();
        assert!(target.up, "runner {runner} is lost");
        assert!(target.running.is_none(), "runner {runner} is busy");
        self.assert_fits(id, runner);
        let holds = |model: Option<Model>| model.is_none_or(|model| target.cache.contains(&model));
        assert_eq!(warm, holds(job.arrival.model), "what it says of warmth");
        if job.arrival.priority == Priority::Low {
            for (other, state) in &self.jobs {
                let Some(until_s) = state.held_until_s else {
                    continue;
                };
                let normal = state.arrival.priority == Priority::Normal;
                let model = state.arrival.model;
                let nobody = !self
                    .runners
                    .iter()
                    .any(|runner| model.is_some_and(|model| runner.cache.contains(&model)));
                let takes =
                    (holds(model) || nobody || until_s <= self.now_s) && self.serves(runner, state);
                assert!(
                    state.gone || !normal || !takes,
                    "low job {id} went before normal job {other}"
                );
            }
        }
        self.assert_due_jobs_go_first(id, runner);
        let target = &mut self.runners[runner];
        target.before.clone_from(&target.cache);
        if let Some(model) = job.arrival.model {
            target.cache.retain(|held| *held != model);
            if target.cache.len() >= SLOTS {
                target.cache.remove(0);
            }
            target.cache.push(model);
        }
        let load_s = if warm { 0.0 } else { LOAD_S };
        target.running = Some(Running {
            job: id,
            ends_s: self.now_s + load_s + job.run_s,
            cold: !warm,
        });
        let state = self.jobs.get_mut(&id).unwrap();
        state.gone = true;
        state.held_until_s = None;
    }

    /// The runner can load the job's model, and no attempt of it failed there while there is
    /// another.
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

    /// No held job of the same lane is passed that was due before this one and that the runner may
    /// serve.
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

    /// The claim failed: the runner is busy for a while with a model that it holds.
    fn refuse(&mut self, runner: Runner) {
        let target = &mut self.runners[runner.0 as usize];
        let refused = target.running.take().unwrap();
        target.cache.clone_from(&target.before);
        target.running = Some(Running {
            job: u64::MAX,
            ends_s: self.now_s + 1.0,
            cold: false,
        });
        self.jobs.get_mut(&refused.job).unwrap().gone = false;
        self.tell(Event::Refused { runner });
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
        // Jobs without hint go in order of age, among older ones that are not due: checked at each
        // send.
        if let Some((id, due_s)) = first
            && self.jobs[&id].arrival.model.is_some()
        {
            let passed_s = self.now_s - passed.since_s.max(due_s);
            passed.longest_s = passed.longest_s.max(passed_s);
        }
    }

    fn free(&mut self, runner: usize, ran: Option<RunObservation>) {
        let cache = self.runners[runner].cache.clone();
        self.tell(Event::Freed(Freed {
            runner: Runner(runner as u32),
            cache,
            slots: SLOTS,
            ran,
        }));
    }

    fn join(&mut self, runner: usize) {
        if !self.runners[runner].up {
            let catalog = self.catalogs[runner].clone();
            self.known.extend(catalog.iter().flatten());
            let number = Runner(runner as u32);
            self.tell(Event::Joined {
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
        self.runners[runner].cache.clear();
        self.tell(Event::Lost {
            runner: Runner(runner as u32),
        });
        if let Some(job) = running.and_then(|running| self.jobs.get_mut(&running.job)) {
            job.gone = false;
            (job.arrival.returned, job.arrival.avoid) =
                (true, Avoid::from_iter([Runner(runner as u32)]));
            job.comes(self.now_s, &self.constants);
            let arrival = job.arrival;
            self.tell(Event::Arrived(arrival));
        }
    }

    /// Lets time pass, and what is due in it happen.
    fn advance(&mut self, until_s: f64) {
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
                None => self.tell(Event::Due),
                Some(index) => self.end(index),
            }
        }
        self.now_s = self.now_s.max(until_s);
    }

    /// A runner ended its job.
    fn end(&mut self, index: usize) {
        let ended = self.runners[index].running.take().unwrap();
        let ran = self.jobs.get(&ended.job).and_then(|job| {
            Some(RunObservation {
                model: job.arrival.model?,
                run_s: job.run_s,
                load_s: ended.cold.then_some(LOAD_S),
            })
        });
        self.free(index, ran);
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Arrive {
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
                job.comes(self.now_s, &self.constants);
                self.jobs.insert(id, job);
                self.tell(Event::Arrived(arrival));
            }
            Step::Lose(runner) => self.mark_lost(runner % self.runners.len()),
            Step::Join(runner) => self.join(runner % self.runners.len()),
            Step::Cancel(number) => {
                if let Some((id, job)) = self.jobs.iter_mut().nth(number)
                    && job.held_until_s.take().is_some()
                {
                    job.gone = true;
                    let job = Job(*id);
                    self.tell(Event::Cancelled { job });
                }
            }
            Step::RefuseNext => self.refuse_next = true,
        }
    }
}

fn arrivals(low: impl Strategy<Value = bool>) -> impl Strategy<Value = Step> {
    let model = prop_oneof![9 => (0..MODELS).prop_map(Some), 1 => Just(None)];
    let patience_s = prop_oneof![3 => Just(f64::INFINITY), 1 => 0.0..30.0f64];
    let failed_on = proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4);
    let avoid = prop_oneof![4 => Just(Vec::new()), 1 => failed_on];
    let fields = (model, low, patience_s, 0.2..4.0f64, avoid);
    fields.prop_map(|(model, low, patience_s, run_s, avoid)| Step::Arrive {
        model,
        low,
        patience_s,
        run_s,
        avoid,
    })
}

/// Fleets in which every runner may load any model, or some list theirs.
fn fleets(runners: usize) -> impl Strategy<Value = CatalogList> {
    let models: Vec<Model> = (0..LISTED).map(Model).collect();
    let some = proptest::sample::subsequence(models, 1..=LISTED as usize);
    let mixed = proptest::collection::vec(proptest::option::of(some), runners);
    prop_oneof![1 => Just(vec![None; runners]), 2 => mixed]
}

fn anything() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => arrivals(any::<bool>()),
        1 => (0usize..4).prop_map(Step::Lose),
        2 => (0usize..4).prop_map(Step::Join),
        1 => (0usize..40).prop_map(Step::Cancel),
        1 => Just(Step::RefuseNext),
    ]
}

fn scenario(
    step: impl Strategy<Value = Step>,
    gap_s: f64,
    steps: usize,
) -> impl Strategy<Value = Vec<(f64, Step)>> {
    proptest::collection::vec((0.0..gap_s, step), 1..steps)
}

proptest! {
    /// Commands keep their promises throughout, and nothing stays behind.
    #[test]
    fn every_job_is_sent_while_a_runner_lives_and_no_busy_or_lost_runner_gets_one(
        steps in scenario(anything(), 4.0, 80),
        overdue in prop_oneof![Just(6.0), 0.01..1.0f64],
        catalogs in fleets(4),
    ) {
        // Wide enough that no job escapes the check of lanes.
        let constants = Constants { overdue, scan: 1000, ..Constants::default() };
        let mut world = World::new(constants, catalogs);
        for (gap_s, step) in &steps {
            world.advance(world.now_s + gap_s);
            world.step(step);
        }
        world.refuse_next = false;
        world.join(0);
        world.advance(world.now_s + 80.0 * 20.0);
        let mut unserved = 0;
        for (id, job) in &world.jobs {
            let mut live = (0..4).filter(|runner| world.runners[*runner].up);
            let is_served = live.any(|runner| world.is_able(runner, job.arrival.model));
            prop_assert!(job.gone || !is_served, "job {} was never sent", id);
            unserved += usize::from(!job.gone);
        }
        prop_assert_eq!(world.policy.held(), unserved);
    }

    /// A runner starts the normal job that was due first of those that it may serve within R + a
    /// load + a run, whatever hotter, younger, bounded, hint-less and low jobs there are.
    #[test]
    fn the_job_that_was_due_first_is_passed_over_for_a_bounded_time(
        steps in scenario(arrivals(any::<bool>()), 2.0, 150),
        overdue in prop_oneof![Just(6.0), 0.01..1.0f64],
        residency in prop_oneof![Just(10.0), 0.0..2.0f64],
        catalogs in fleets(3),
    ) {
        let constants = Constants { overdue, residency, ..Constants::default() };
        let mut world = World::new(constants, catalogs);
        for (gap_s, step) in &steps {
            world.advance(world.now_s + gap_s);
            world.step(step);
        }
        world.advance(world.now_s + 150.0 * 14.0);
        let is_served = |job: &JobState| {
            (0..3).any(|runner| world.is_able(runner, job.arrival.model))
        };
        for (id, job) in &world.jobs {
            prop_assert!(job.gone == is_served(job), "job {}", id);
        }
        let most_s = (constants.residency + 1.0) * LOAD_S + 4.0;
        for passed in &world.passed {
            prop_assert!(passed.longest_s <= most_s, "{} s", passed.longest_s);
        }
    }
}

#[test]
fn a_held_job_goes_to_an_idle_runner_when_its_patience_ends() {
    let mut world = World::new(Constants::default(), vec![None; 2]);
    let arrive = |patience_s| Step::Arrive {
        model: Some(0),
        low: false,
        patience_s,
        run_s: 4.0,
        avoid: Vec::new(),
    };
    world.step(&arrive(f64::INFINITY));
    // Loaded at 10 s, by estimate free at 12 s, really at 14 s: soon enough to wait for.
    world.advance(11.0);
    world.step(&arrive(1.0));
    assert_eq!(world.policy.held(), 1);
    world.advance(11.9);
    assert_eq!(world.policy.held(), 1);
    world.advance(12.1);
    assert_eq!(world.policy.held(), 0);
    assert!(world.runners.iter().all(|runner| runner.running.is_some()));
}
