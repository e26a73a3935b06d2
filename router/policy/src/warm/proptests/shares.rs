//! Properties of several owners on one fleet.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::world::LOAD_S;

const RUNNERS: u32 = 3;
const MODELS: u32 = 4;
const OWNERS: u32 = 3;
const SLOTS: usize = 2;
const RUN_S: f64 = 2.0;

/// What an owner may have on runners at a time.
type Limits = Vec<Option<usize>>;

/// A fleet on a virtual clock whose runs all take [`RUN_S`], and loads [`LOAD_S`].
struct SharedFleet {
    policy: Warm,
    now_s: f64,
    limits: Limits,
    /// Models on each runner, least recently used first.
    caches: Vec<Vec<Model>>,
    /// Owner and end of the run of each busy runner, s.
    running: BTreeMap<u32, (Owner, f64)>,
    arrivals: Vec<Arrival>,
    /// Number and time of the runs of each owner.
    runs: Vec<usize>,
    times_s: Vec<f64>,
}

impl SharedFleet {
    fn new(weights: &[f64], limits: Limits) -> Self {
        let mut policy = Warm::new(Constants::default());
        for (owner, (weight, max_running)) in weights.iter().zip(&limits).enumerate() {
            let terms = OwnerTerms {
                owner: Owner(owner as u32),
                weight: *weight,
                max_running: *max_running,
            };
            policy.on(0.0, Event::Terms(terms), 0);
        }
        let mut fleet = Self {
            policy,
            now_s: 0.0,
            runs: vec![0; limits.len()],
            times_s: vec![0.0; limits.len()],
            limits,
            caches: vec![Vec::new(); RUNNERS as usize],
            running: BTreeMap::new(),
            arrivals: Vec::new(),
        };
        (0..RUNNERS).for_each(|runner| fleet.free(runner));
        fleet
    }

    fn apply(&mut self, event: Event) {
        let coin = self.arrivals.len() as u64;
        for command in self.policy.on(self.now_s, event, coin) {
            if let Command::Send(send) = command {
                self.start(send);
            }
        }
    }

    /// Starts a job, and asserts that the runner is idle and its owner below its limit.
    fn start(&mut self, send: SendCommand) {
        let Arrival { owner, model, .. } = self.arrivals[send.job.0 as usize];
        let cache = &mut self.caches[send.runner.0 as usize];
        let mut ends_s = self.now_s + RUN_S;
        if let Some(model) = model {
            match cache.iter().position(|held| *held == model) {
                Some(index) => drop(cache.remove(index)),
                None => {
                    ends_s += LOAD_S;
                    cache.drain(..(cache.len() + 1).saturating_sub(SLOTS));
                }
            }
            cache.push(model);
        }
        let of_owner = self.running.values().filter(|(other, _)| *other == owner);
        let limit = self.limits[owner.0 as usize].unwrap_or(usize::MAX);
        assert!(of_owner.count() < limit, "{owner:?} is at its limit");
        let before = self.running.insert(send.runner.0, (owner, ends_s));
        assert!(before.is_none(), "{:?} is busy", send.runner);
        self.runs[owner.0 as usize] += 1;
        self.times_s[owner.0 as usize] += ends_s - self.now_s;
    }

    fn free(&mut self, runner: u32) {
        self.apply(Event::Freed(Freed {
            runner: Runner(runner),
            memory: Memory {
                cache: self.caches[runner as usize].clone(),
                slots: SLOTS,
                ..Memory::default()
            },
            ran: None,
        }));
    }

    fn arrive(&mut self, owner: u32, model: Option<u32>) {
        let arrival = Arrival {
            job: Job(self.arrivals.len() as u64),
            model: model.map(Model),
            priority: Priority::Normal,
            owner: Owner(owner),
            since_s: self.now_s,
            max_warm_wait_s: f64::INFINITY,
            returned: false,
            avoid: Avoid::NONE,
        };
        self.arrivals.push(arrival);
        self.apply(Event::Arrived(arrival));
    }

    /// Advances the clock, with the ends of runs and the deadlines until then.
    fn advance(&mut self, until_s: f64) {
        loop {
            let ends = self
                .running
                .iter()
                .map(|(runner, (_, ends_s))| (*ends_s, Some(*runner)));
            let due = self.policy.next_deadline_s().map(|due_s| (due_s, None));
            let next = ends.chain(due).min_by(|(a, _), (b, _)| a.total_cmp(b));
            let Some((at_s, what)) = next.filter(|(at_s, _)| *at_s <= until_s) else {
                break;
            };
            self.now_s = self.now_s.max(at_s);
            match what {
                None => self.apply(Event::Due),
                Some(runner) => {
                    self.running.remove(&runner);
                    self.free(runner);
                }
            }
        }
        self.now_s = until_s;
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = prop_oneof![2 => Just(None), 1 => (1usize..3).prop_map(Some)];
    proptest::collection::vec(limit, OWNERS as usize)
}

proptest! {
    /// The fleet checks each send; at the end nothing is held.
    #[test]
    fn every_job_of_every_owner_runs_and_no_owner_exceeds_its_limit(
        weights in proptest::collection::vec(0.01..10.0f64, OWNERS as usize),
        limits in limits(),
        jobs in proptest::collection::vec(
            (0.0..3.0f64, 0..OWNERS, proptest::option::weighted(0.8, 0..MODELS)),
            1..120,
        ),
    ) {
        let mut fleet = SharedFleet::new(&weights, limits);
        for (gap_s, owner, model) in &jobs {
            fleet.advance(fleet.now_s + gap_s);
            fleet.arrive(*owner, *model);
        }
        fleet.advance(fleet.now_s + jobs.len() as f64 * 60.0);
        prop_assert_eq!(fleet.policy.held(), 0);
        prop_assert_eq!(fleet.runs.iter().sum::<usize>(), jobs.len());
    }

    /// While all owners have jobs of one model waiting, they have runners' time in proportion to
    /// their weights, but for one load and run per runner.
    #[test]
    fn owners_that_flood_a_fleet_get_time_by_weight(
        weights in proptest::collection::vec(0.2..5.0f64, OWNERS as usize),
    ) {
        let mut fleet = SharedFleet::new(&weights, vec![None; OWNERS as usize]);
        for _ in 0..400 {
            (0..OWNERS).for_each(|owner| fleet.arrive(owner, Some(0)));
        }
        fleet.advance(200.0);
        let (total_s, weight) = (fleet.times_s.iter().sum::<f64>(), weights.iter().sum::<f64>());
        for (time_s, of_owner) in fleet.times_s.iter().zip(&weights) {
            let share_s = total_s * of_owner / weight;
            prop_assert!(
                (time_s - share_s).abs() <= f64::from(RUNNERS) * (LOAD_S + RUN_S),
                "{} s of {} s, weights {:?}", time_s, total_s, weights
            );
        }
    }
}
