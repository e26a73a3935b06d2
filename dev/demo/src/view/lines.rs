//! One plain line per job that ended, for logs.

use std::collections::BTreeSet;

use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use crate::report;
use crate::snapshot::{Snapshot, Submitted};

/// The lines printed so far.
pub struct Lines {
    jobs: usize,
    printed: BTreeSet<JobId>,
}

impl Lines {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            jobs,
            printed: BTreeSet::new(),
        }
    }

    /// Returns the lines of jobs that ended since the last call.
    pub(super) fn show(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let ended = snapshot
            .jobs
            .iter()
            .filter(|job| job.state() == JobState::Succeeded);
        let new: Vec<&Submitted> = ended.filter(|job| self.printed.insert(job.id)).collect();
        let before = self.printed.len() - new.len();
        let lines = new.iter().enumerate().map(|(index, job)| {
            format!("[{:>2}/{}] {}", before + index + 1, self.jobs, words(job))
        });
        lines.collect()
    }
}

fn words(job: &Submitted) -> String {
    let planned = &job.planned;
    let runner = job.runner().map_or("?", |runner| runner.as_str());
    let record = job.view.as_ref().map(|view| &view.record);
    let held = match record.map_or(0, report::held_ms) {
        0 => String::new(),
        ms => format!("held {ms} ms, "),
    };
    let timings = record.and_then(|record| record.timings);
    let cost = match timings {
        Some(timings) if timings.warm => format!("warm, ran {} ms", timings.run_ms),
        Some(timings) => format!(
            "cold, loaded {} ms, ran {} ms",
            timings.load_ms, timings.run_ms
        ),
        None => String::new(),
    };
    format!(
        "#{:02} {:<10} by {} on {runner}: {held}{cost}",
        planned.number,
        planned.model,
        planned.via.as_str()
    )
}
