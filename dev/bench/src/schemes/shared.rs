//! One FIFO queue, consumed by the first idle runner: a plain work queue.

use std::collections::VecDeque;

use super::Scheme;
use crate::simulator::{Job, Report, SchemeContext};

pub struct SharedScheme {
    queue: VecDeque<usize>,
    /// In the order in which they became idle.
    idle: VecDeque<usize>,
}

impl SharedScheme {
    pub fn new(runners: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            idle: VecDeque::with_capacity(runners),
        }
    }
}

impl Scheme for SharedScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        match self.idle.pop_front() {
            Some(runner) => context.send(job.id, runner),
            None if job.returned => self.queue.push_front(job.id),
            None => self.queue.push_back(job.id),
        }
    }

    fn on_report(&mut self, runner: usize, report: &Report, context: &mut SchemeContext<'_>) {
        match report {
            Report::Freed { .. } => match self.queue.pop_front() {
                Some(job) => context.send(job, runner),
                None => self.idle.push_back(runner),
            },
            Report::Lost => self.idle.retain(|idle| *idle != runner),
            Report::Loaded => {}
        }
    }
}
