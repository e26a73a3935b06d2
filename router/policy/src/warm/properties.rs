//! What holds whatever happens: a small fleet on a virtual clock, driven by arbitrary arrivals, losses, refusals and
//! cancellations, checks every command.

use std::collections::BTreeMap;

use proptest::prelude::*;
use warmq_types::job::Priority;

use super::*;

const LOAD_S: f64 = 10.0;
const SLOTS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Arrive {
        model: Option<u32>,
        low: bool,
        patience_s: f64,
        run_s: f64,
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
    gone: bool,
}

impl JobState {
    /// When it is due, s; D is exact here, as no run is longer than a load.
    fn due_s(&self, constants: &Constants) -> f64 {
        let since_s = self.arrival.since_s;
        match self.arrival.model {
            Some(_) => self.bound_s.min(since_s + constants.overdue * LOAD_S),
            None => since_s,
        }
    }
}

/// Time that the normal job that was due first, and is due, has been passed over.
#[derive(Debug, Default)]
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
    passed: Passed,
}

impl World {
    fn new(constants: Constants, runners: usize) -> Self {
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
            passed: Passed::default(),
        };
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
    }

    fn sent(&mut self, id: u64, runner: usize, warm: bool) {
        let job = self.jobs[&id].clone();
        assert!(!job.gone, "job {id} is not there any more");
        let target = self.runners[runner].clone();
        assert!(target.up, "runner {runner} is lost");
        assert!(target.running.is_none(), "runner {runner} is busy");
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
                let takes = holds(model) || nobody || until_s <= self.now_s;
                assert!(
                    state.gone || !normal || !takes,
                    "low job {id} went before normal job {other}"
                );
            }
        }
        self.assert_due_jobs_go_first(id);
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

    /// No held job of the same lane is passed that was due before this one.
    fn assert_due_jobs_go_first(&self, id: u64) {
        const ROUNDING_S: f64 = 1e-5;
        let sent = &self.jobs[&id];
        let (since_s, due_s) = (sent.arrival.since_s, sent.due_s(&self.constants));
        for (other, state) in &self.jobs {
            let is_held = !state.gone && state.held_until_s.is_some() && *other != id;
            if !is_held || state.arrival.priority != sent.arrival.priority {
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

    /// Somebody else had the runner: it is busy for a while with a model that it holds.
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
        let held = self
            .jobs
            .iter()
            .filter(|(_, job)| job.arrival.priority == Priority::Normal)
            .filter(|(_, job)| !job.gone && job.held_until_s.is_some());
        let due = held.map(|(id, job)| (*id, job.due_s(&self.constants)));
        let first = due.min_by(|(_, a), (_, b)| a.total_cmp(b));
        if first.map(|(id, _)| id) != self.passed.first {
            self.passed.first = first.map(|(id, _)| id);
            self.passed.since_s = self.now_s;
        }
        // Jobs without hint go in order of age, among older ones that are not due: checked at each send.
        if let Some((id, due_s)) = first
            && self.jobs[&id].arrival.model.is_some()
        {
            let passed_s = self.now_s - self.passed.since_s.max(due_s);
            self.passed.longest_s = self.passed.longest_s.max(passed_s);
        }
    }

    fn free(&mut self, runner: usize, ran: Option<Ran>) {
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
            job.bound_s = self.now_s;
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
            Some(Ran {
                model: job.arrival.model?,
                run_s: job.run_s,
                load_s: ended.cold.then_some(LOAD_S),
            })
        });
        self.free(index, ran);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Arrive {
                model,
                low,
                patience_s,
                run_s,
            } => {
                let id = self.jobs.len() as u64;
                let arrival = Arrival {
                    job: Job(id),
                    model: model.map(Model),
                    priority: if low { Priority::Low } else { Priority::Normal },
                    since_s: self.now_s,
                    max_warm_wait_s: patience_s,
                    returned: false,
                    avoid: Avoid::NONE,
                };
                self.jobs.insert(
                    id,
                    JobState {
                        arrival,
                        run_s,
                        held_until_s: None,
                        bound_s: self.now_s + patience_s,
                        gone: false,
                    },
                );
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
    let model = prop_oneof![9 => (0u32..6).prop_map(Some), 1 => Just(None)];
    let patience_s = prop_oneof![3 => Just(f64::INFINITY), 1 => 0.0..30.0f64];
    (model, low, patience_s, 0.2..4.0f64).prop_map(|(model, low, patience_s, run_s)| Step::Arrive {
        model,
        low,
        patience_s,
        run_s,
    })
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
    ) {
        // Wide enough that no job escapes the check of lanes.
        let constants = Constants { overdue, scan: 1000, ..Constants::default() };
        let mut world = World::new(constants, 4);
        for (gap_s, step) in &steps {
            world.advance(world.now_s + gap_s);
            world.step(step);
        }
        world.refuse_next = false;
        world.join(0);
        world.advance(world.now_s + 80.0 * 20.0);
        prop_assert_eq!(world.policy.held(), 0);
        for (id, job) in &world.jobs {
            prop_assert!(job.gone, "job {} was never sent", id);
        }
    }

    /// The normal job that was due first of those held starts within R + a load + a run, whatever hotter, younger, bounded,
    /// hint-less and low jobs there are.
    #[test]
    fn the_job_that_was_due_first_is_passed_over_for_a_bounded_time(
        steps in scenario(arrivals(any::<bool>()), 2.0, 150),
        overdue in prop_oneof![Just(6.0), 0.01..1.0f64],
        residency in prop_oneof![Just(10.0), 0.0..2.0f64],
    ) {
        let constants = Constants { overdue, residency, ..Constants::default() };
        let mut world = World::new(constants, 3);
        for (gap_s, step) in &steps {
            world.advance(world.now_s + gap_s);
            world.step(step);
        }
        world.advance(world.now_s + 150.0 * 14.0);
        prop_assert_eq!(world.policy.held(), 0);
        let most_s = (constants.residency + 1.0) * LOAD_S + 4.0;
        prop_assert!(world.passed.longest_s <= most_s, "{} s", world.passed.longest_s);
    }
}

#[test]
fn a_held_job_goes_to_an_idle_runner_when_its_patience_ends() {
    let mut world = World::new(Constants::default(), 2);
    let arrive = |patience_s| Step::Arrive {
        model: Some(0),
        low: false,
        patience_s,
        run_s: 4.0,
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
