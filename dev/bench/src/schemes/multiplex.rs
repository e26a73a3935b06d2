//! Ray Serve's rule for multiplexed models: of the replicas that hold the model, the less busy of
//! two random ones, if its queue has room; after a second without one, the replicas with the fewest
//! models. Jobs wait in one queue.

use std::collections::BTreeMap;

use super::Scheme;
use crate::simulator::{Job, Report, SchemeContext};

/// Maximum of running and queued jobs of a replica (`max_ongoing_requests`).
const MAX_ONGOING: usize = 5;
/// How long only holders are considered, s (`RAY_SERVE_MULTIPLEXED_MODEL_ID_MATCHING_TIMEOUT_S`).
const MATCHING_S: f64 = 1.0;

#[derive(Default)]
pub struct MultiplexScheme {
    /// Waiting jobs, and until when only holders are considered.
    waiting: BTreeMap<u64, (Job, f64)>,
    count: u64,
    next_due_s: Option<f64>,
    caches: Vec<Vec<u32>>,
}

impl MultiplexScheme {
    /// Returns the less busy of two random candidates, if it accepts another job.
    fn choose(
        candidates: &[usize],
        planned: &[usize],
        context: &mut SchemeContext<'_>,
    ) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let pair = [
            context.below(candidates.len()),
            context.below(candidates.len()),
        ];
        let load = |runner: usize| context.fleet.runners[runner].load() + planned[runner];
        let runner = pair
            .into_iter()
            .map(|at| candidates[at])
            .min_by_key(|at| load(*at))?;
        (load(runner) < MAX_ONGOING).then_some(runner)
    }

    fn place(
        &self,
        job: &Job,
        until_s: f64,
        planned: &[usize],
        context: &mut SchemeContext<'_>,
    ) -> Option<usize> {
        let up = |runner: &usize| context.fleet.runners[*runner].up && *runner < self.caches.len();
        let all: Vec<usize> = (0..context.fleet.runners.len()).filter(up).collect();
        let holds = |runner: &usize| self.caches[*runner].contains(&job.model);
        let holders: Vec<usize> = all.iter().copied().filter(holds).collect();
        if let Some(runner) = Self::choose(&holders, planned, context) {
            return Some(runner);
        }
        if !holders.is_empty() && context.now_s < until_s {
            return None;
        }
        let fewest = all.iter().map(|runner| self.caches[*runner].len()).min()?;
        let few = |runner: &usize| self.caches[*runner].len() == fewest;
        let emptiest: Vec<usize> = all.iter().copied().filter(few).collect();
        Self::choose(&emptiest, planned, context).or_else(|| Self::choose(&all, planned, context))
    }

    fn place_all(&mut self, context: &mut SchemeContext<'_>) {
        self.next_due_s = None;
        let mut planned = vec![0; context.fleet.runners.len()];
        let mut room: usize = context
            .fleet
            .runners
            .iter()
            .filter(|runner| runner.up)
            .map(|runner| MAX_ONGOING.saturating_sub(runner.load()))
            .sum();
        let waiting: Vec<(u64, (Job, f64))> = self
            .waiting
            .iter()
            .take(64)
            .map(|(at, job)| (*at, *job))
            .collect();
        for (at, (job, until_s)) in waiting {
            if room == 0 {
                break;
            }
            match self.place(&job, until_s, &planned, context) {
                Some(runner) => {
                    room -= 1;
                    planned[runner] += 1;
                    self.waiting.remove(&at);
                    context.send(job.id, runner);
                }
                None => {
                    let soon_s = until_s.max(context.now_s + 0.05);
                    self.next_due_s = Some(self.next_due_s.map_or(soon_s, |due| due.min(soon_s)));
                }
            }
        }
    }
}

impl Scheme for MultiplexScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        self.count += 1;
        self.waiting
            .insert(self.count, (*job, context.now_s + MATCHING_S));
        self.place_all(context);
    }

    fn on_report(&mut self, runner: usize, report: &Report, context: &mut SchemeContext<'_>) {
        if runner >= self.caches.len() {
            self.caches.resize(runner + 1, Vec::new());
        }
        match report {
            Report::Freed { cache, .. } => self.caches[runner].clone_from(cache),
            Report::Lost => self.caches[runner].clear(),
            // A replica reports its models once it has loaded them.
            Report::Loaded => {
                self.caches[runner].clone_from(&context.fleet.runners[runner].cache);
            }
        }
        self.place_all(context);
    }

    fn on_progress(&mut self, context: &mut SchemeContext<'_>) {
        self.place_all(context);
    }

    fn on_due(&mut self, context: &mut SchemeContext<'_>) {
        self.place_all(context);
    }

    fn next_due_s(&self) -> Option<f64> {
        self.next_due_s
    }

    fn learns_by_reports(&self) -> bool {
        true
    }
}
