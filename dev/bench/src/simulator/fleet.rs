//! Runners: one job at a time, a first-in-first-out queue, and a cache of the models used last.

use std::collections::VecDeque;

use warmq_types::tier::Tier;

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
    /// Evicted models that stay in RAM, least recently used first.
    pub ram: Vec<u32>,
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
    /// Models that a runner can hold on its device.
    pub slots: usize,
    /// Models that it can hold in RAM.
    pub ram_slots: usize,
}

impl Fleet {
    /// Creates a cold fleet.
    pub fn new(runners: usize, slots: usize, ram_slots: usize) -> Self {
        let cold = RunnerState {
            up: true,
            incarnation: 0,
            running: None,
            queue: VecDeque::new(),
            cache: Vec::new(),
            ram: Vec::new(),
        };
        Self {
            runners: vec![cold; runners],
            slots,
            ram_slots,
        }
    }

    /// Uses a model. Returns where it was; unless on the device, it is loaded, and the least
    /// recently used one is evicted if necessary, into RAM if there are slots.
    pub fn use_model(&mut self, runner: usize, model: u32) -> Tier {
        let RunnerState { cache, ram, .. } = &mut self.runners[runner];
        let take = |models: &mut Vec<u32>| {
            let position = models.iter().position(|held| *held == model)?;
            Some(models.remove(position))
        };
        let tier = match (take(cache), take(ram)) {
            (Some(_), _) => Tier::Device,
            (None, Some(_)) => Tier::Ram,
            (None, None) => Tier::Disk,
        };
        if cache.len() >= self.slots {
            ram.push(cache.remove(0));
        }
        if ram.len() > self.ram_slots {
            ram.remove(0);
        }
        cache.push(model);
        tier
    }

    /// Returns the runner with the fewest jobs, of those that are up.
    pub fn least_loaded(&self) -> Option<usize> {
        let up = (0..self.runners.len()).filter(|runner| self.runners[*runner].up);
        up.min_by_key(|runner| self.runners[*runner].load())
    }
}
