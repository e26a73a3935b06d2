//! Policy `fal`, decided by the router's own code. Runners consume the shared queue themselves.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;
use warmq_policy::fal;
use warmq_types::hint::{Candidates, Hint};
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{JobSpec, Target};

use super::Scheme;
use crate::simulator::{Job, Report, SchemeContext};

pub struct FalScheme {
    names: Vec<RunnerId>,
    hints: Vec<Hint>,
    shared: VecDeque<usize>,
    /// In the order in which they became idle.
    idle: VecDeque<usize>,
    blank: BTreeSet<usize>,
    holders: Vec<BTreeSet<usize>>,
    caches: Vec<Vec<u32>>,
}

impl FalScheme {
    pub fn new(runners: usize, models: u32) -> Self {
        Self {
            // Names have equal length, so that their order is that of the numbers. All are valid.
            names: (0..runners)
                .filter_map(|runner| RunnerId::parse(&format!("r{runner:09}")).ok())
                .collect(),
            hints: (0..models)
                .filter_map(|model| Hint::parse(&format!("m{model}")).ok())
                .collect(),
            shared: VecDeque::new(),
            idle: VecDeque::with_capacity(runners),
            blank: BTreeSet::new(),
            holders: vec![BTreeSet::new(); models as usize],
            caches: vec![Vec::new(); runners],
        }
    }

    fn make_idle(&mut self, runner: usize, cache: &[u32]) {
        self.idle.push_back(runner);
        for &model in cache {
            self.holders[model as usize].insert(runner);
        }
        if cache.is_empty() {
            self.blank.insert(runner);
        }
        self.caches[runner] = cache.to_vec();
    }

    fn make_busy(&mut self, runner: usize) {
        self.idle.retain(|idle| *idle != runner);
        for model in self.caches[runner].drain(..) {
            self.holders[model as usize].remove(&runner);
        }
        self.blank.remove(&runner);
    }

    fn decide(&self, job: &Job, coin: u64) -> Option<Target> {
        let names = |set: &BTreeSet<usize>| {
            set.iter()
                .map(|runner| self.names[*runner].clone())
                .collect()
        };
        let warm: Vec<RunnerId> = names(&self.holders[job.model as usize]);
        let candidates = Candidates {
            blank: if warm.is_empty() {
                names(&self.blank)
            } else {
                Vec::new()
            },
            warm,
            others: Vec::new(),
            idle: self.idle.len() as u64,
        };
        let tail = coin & 0xffff_ffff_ffff;
        let spec = JobSpec {
            id: format!("00000000-0000-7000-8000-{tail:012x}")
                .parse::<JobId>()
                .ok()?,
            hint: self.hints.get(job.model as usize).cloned(),
            ..JobSpec::new(AppId::parse("bench/sim").ok()?, Value::Null)
        };
        Some(fal::decide(&spec, candidates, 0).target)
    }
}

impl Scheme for FalScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let coin = context.coin();
        let chosen = match self.decide(job, coin) {
            Some(Target::Runner { runner }) => self.names.binary_search(&runner).ok(),
            // RabbitMQ delivers a job of the shared queue to the consumer that has waited longest.
            _ => self.idle.front().copied(),
        };
        match chosen {
            Some(runner) => {
                self.make_busy(runner);
                context.send(job.id, runner);
            }
            None if job.returned => self.shared.push_front(job.id),
            None => self.shared.push_back(job.id),
        }
    }

    fn on_report(&mut self, runner: usize, report: &Report, context: &mut SchemeContext<'_>) {
        match report {
            Report::Freed { cache, .. } => match self.shared.pop_front() {
                Some(job) => context.send(job, runner),
                None => self.make_idle(runner, cache),
            },
            Report::Lost => self.make_busy(runner),
            Report::Loaded => {}
        }
    }
}
