//! One live line per runner, and one for all jobs.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use warmq_types::ids::RunnerId;
use warmq_types::job::Phase;
use warmq_types::runner::RunnerRecord;

use crate::snapshot::{Snapshot, Submitted};

/// The live lines.
pub struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    runners: BTreeMap<RunnerId, ProgressBar>,
}

impl Bars {
    pub(super) fn new(jobs: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let total = all.add(ProgressBar::new(u64::try_from(jobs).unwrap_or(u64::MAX)));
        total.set_style(style("{prefix:<10} [{bar:24.green}] {msg}"));
        total.set_prefix("all jobs");
        Self {
            all,
            total,
            runners: BTreeMap::new(),
        }
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        for runner in &snapshot.runners {
            let bar = self.runners.entry(runner.id.clone()).or_insert_with(|| {
                let bar = self.all.insert_before(&self.total, ProgressBar::new(1));
                bar.set_style(style("{prefix:<10} [{bar:24.cyan}] {msg}"));
                bar.set_prefix(runner.id.to_string());
                bar
            });
            let job = snapshot.job_on(&runner.id);
            let (step, steps) = job.map_or((0, 1), steps);
            bar.set_length(u64::from(steps.max(1)));
            bar.set_position(u64::from(step));
            bar.set_message(format!("{} | holds {}", doing(job), holds(runner)));
        }
        self.total
            .set_position(u64::try_from(snapshot.done()).unwrap_or(u64::MAX));
        self.total.set_message(format!(
            "{} done, {} running, {} waiting",
            snapshot.done(),
            snapshot.running(),
            snapshot.waiting()
        ));
    }

    pub(super) fn println(&self, text: &str) {
        // Fails only if the terminal is closed.
        let _ = self.all.println(text);
    }

    pub(super) fn end(self) {
        for bar in self.runners.values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// Parses a template. All are valid; the default style is the fallback.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn steps(job: &Submitted) -> (u32, u32) {
    let progress = job
        .view
        .as_ref()
        .and_then(|view| view.record.progress.as_ref());
    progress.map_or((0, 1), |progress| (progress.step, progress.steps))
}

fn doing(job: Option<&Submitted>) -> String {
    let Some(job) = job else {
        return "idle".to_owned();
    };
    let progress = job
        .view
        .as_ref()
        .and_then(|view| view.record.progress.as_ref());
    let phase = match progress.map(|progress| progress.phase) {
        Some(Phase::Fetching) => "fetching",
        Some(Phase::Loading) => "loading",
        Some(Phase::Running) => "denoising",
        Some(Phase::Storing) => "storing",
        None => "starting",
    };
    format!("#{:02} {} {phase}", job.planned.number, job.planned.model)
}

/// Returns the models that a runner holds, as text.
pub(super) fn holds(runner: &RunnerRecord) -> String {
    let hints: Vec<&str> = runner.hints.iter().map(|hint| hint.as_str()).collect();
    match hints.as_slice() {
        [] => "nothing yet".to_owned(),
        some => some.join(", "),
    }
}
