//! Runners: one job at a time, a first-in-first-out queue, and a cache of the models used last.

use std::collections::VecDeque;

/// One runner.
#[derive(Debug, Clone)]
pub struct RunnerState {
    /// Whether the runner has not failed.
    pub up: bool,
    /// Number of failures, which identifies events of earlier incarnations.
    pub incarnation: u32,
    /// The job that it runs or loads for.
    pub running: Option<usize>,
    /// Queued jobs.
    pub queue: VecDeque<usize>,
    /// Loaded models, least recently used first.
    pub cache: Vec<u32>,
}

impl RunnerState {
    /// Returns the number of running and queued jobs.
    pub fn load(&self) -> usize {
        self.queue.len() + usize::from(self.running.is_some())
    }
}

/// The runners.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// All runners, including failed ones.
    pub runners: Vec<RunnerState>,
    /// Models that a runner can hold.
    pub slots: usize,
}

impl Fleet {
    /// Creates a cold fleet.
    pub fn new(runners: usize, slots: usize) -> Self {
        let cold = RunnerState {
            up: true,
            incarnation: 0,
            running: None,
            queue: VecDeque::new(),
            cache: Vec::new(),
        };
        Self {
            runners: vec![cold; runners],
            slots,
        }
    }

    /// Uses a model. Returns true if it was loaded; otherwise loads it, evicting the least recently
    /// used one if necessary.
    pub fn use_model(&mut self, runner: usize, model: u32) -> bool {
        let cache = &mut self.runners[runner].cache;
        let position = cache.iter().position(|held| *held == model);
        match position {
            Some(position) => {
                cache.remove(position);
            }
            None if cache.len() >= self.slots => {
                cache.remove(0);
            }
            None => {}
        }
        cache.push(model);
        position.is_some()
    }

    /// Returns the runner with the fewest jobs, of those that are up.
    pub fn least_loaded(&self) -> Option<usize> {
        let up = (0..self.runners.len()).filter(|runner| self.runners[*runner].up);
        up.min_by_key(|runner| self.runners[*runner].load())
    }
}
