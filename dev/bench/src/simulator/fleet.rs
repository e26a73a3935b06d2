//! Runners: one job at a time, a first-in-first-out queue, and a cache of the models used last.

use std::collections::VecDeque;

/// One runner.
#[derive(Debug, Clone)]
pub struct RunnerState {
    /// Not failed.
    pub up: bool,
    /// Counts its failures, so that what was planned for an earlier life is told apart.
    pub incarnation: u32,
    /// What it runs or loads for: the job's number.
    pub running: Option<usize>,
    /// Jobs that wait for it.
    pub queue: VecDeque<usize>,
    /// The models it holds, least recently used first.
    pub cache: Vec<u32>,
}

impl RunnerState {
    /// Jobs that it has: running and queued.
    pub fn load(&self) -> usize {
        self.queue.len() + usize::from(self.running.is_some())
    }
}

/// The runners.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// All of them, the failed ones too.
    pub runners: Vec<RunnerState>,
    /// Models that one can hold.
    pub slots: usize,
}

impl Fleet {
    /// A cold fleet.
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

    /// Uses a model: true if it was there, else it is loaded, and the least recently used one leaves if there is no room.
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

    /// The runner that has the fewest jobs, of those up.
    pub fn least_loaded(&self) -> Option<usize> {
        let up = (0..self.runners.len()).filter(|runner| self.runners[*runner].up);
        up.min_by_key(|runner| self.runners[*runner].load())
    }
}
