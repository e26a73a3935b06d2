//! Live progress of a job: its position in the queue, the load of the model, the denoising steps.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use warmq_types::http::{Job, StepStatus};
use warmq_types::ids::JobId;
use warmq_types::job::Phase;
use warmq_types::state::JobState;
use warmq_types::text::escape;

use crate::client::Client;
use crate::exit::Usage;
use crate::time;

/// Interval at which the router is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(150);

/// Shows a job's progress on standard error until it ends: a bar on a terminal, one line per change
/// elsewhere.
///
/// # Errors
/// The router is unreachable, or the job does not exist or expired.
pub async fn follow(client: &Client, id: JobId) -> anyhow::Result<Job> {
    let mut display = Display::new();
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    loop {
        ticks.tick().await;
        let job = client
            .job(id)
            .await?
            .ok_or_else(|| Usage(format!("job {id} no longer exists on the router")))?;
        display.show(&job);
        if job.record.state.is_terminal() {
            display.end();
            return Ok(job);
        }
    }
}

enum Display {
    Bar(ProgressBar),
    Lines { last: String },
}

impl Display {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines {
                last: String::new(),
            };
        }
        let bar = ProgressBar::new(1);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Bar(bar)
    }

    fn show(&mut self, job: &Job) {
        let (done, of) = steps(job);
        let text = words(job);
        match self {
            Self::Bar(bar) => {
                let template = match of {
                    0 => "{spinner} {msg} ({elapsed})",
                    _ => "{spinner} {msg} [{bar:30}] {pos}/{len} ({elapsed})",
                };
                // The templates are valid; the default style is the fallback.
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_length(u64::from(of));
                bar.set_position(u64::from(done));
                bar.set_message(text);
            }
            // Prints a line per phase, not per step.
            Self::Lines { last } if *last != text => {
                eprintln!("{text}");
                *last = text;
            }
            Self::Lines { .. } => {}
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Formats a job's status in a sentence with its id.
pub fn sentence(job: &Job) -> String {
    let steps = match steps(job) {
        (_, 0) => String::new(),
        (done, of) if is_loading(job) => format!(", {} %", u64::from(done) * 100 / u64::from(of)),
        (done, of) => format!(", step {done} of {of}"),
    };
    format!("job {}: {}{steps}", job.record.spec.id, words(job))
}

/// Formats a job's status without its id and steps.
fn words(job: &Job) -> String {
    let record = &job.record;
    if let Some(step) = job.steps.last() {
        return step_words(
            step,
            record.progress.as_ref().map(|progress| progress.phase),
        );
    }
    let on = match &record.runner {
        Some(runner) => format!(" on {runner}"),
        None => String::new(),
    };
    match record.state {
        JobState::Queued => match job.queue_position {
            Some(0) => "queued, next in line".to_owned(),
            Some(1) => "queued, one job ahead".to_owned(),
            Some(ahead) => format!("queued, {ahead} jobs ahead"),
            None => "queued".to_owned(),
        },
        JobState::Dispatched => match &record.runner {
            Some(runner) => format!("sent to {runner}"),
            None => "sent to the shared queue".to_owned(),
        },
        JobState::Running => {
            let phase = record.progress.as_ref().map(|progress| progress.phase);
            format!("{}{on}", does(phase))
        }
        JobState::Succeeded => match record.timings {
            Some(timings) => {
                let run = time::duration(timings.run_ms);
                match timings.warm {
                    true => format!("succeeded{on}, warm, in {run}"),
                    false => format!(
                        "succeeded{on}, cold, in {run} after {} of loading",
                        time::duration(timings.load_ms)
                    ),
                }
            }
            None => format!("succeeded{on}"),
        },
        JobState::Failed => match &record.error {
            Some(error) => format!("failed{on}: {}", escape(&error.message)),
            None => format!("failed{on}"),
        },
        JobState::Cancelled => "cancelled".to_owned(),
        JobState::Expired => "expired: no runner started it in time".to_owned(),
    }
}

/// Names the phase of a running job.
fn does(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::Fetching) => "fetching its files",
        Some(Phase::Loading) => "loading the model",
        Some(Phase::Running) => "running",
        Some(Phase::Storing) => "storing the pictures",
        None => "starting",
    }
}

/// Formats `step upscale (2 of 3), acme/upscale: running`.
fn step_words(step: &StepStatus, phase: Option<Phase>) -> String {
    let does = match (step.status.as_str(), step.queue_position) {
        ("IN_PROGRESS", _) => does(phase).to_owned(),
        ("IN_QUEUE", Some(ahead)) if ahead > 0 => format!("queued, {ahead} ahead"),
        ("IN_QUEUE", _) => "queued, next in line".to_owned(),
        _ => "done".to_owned(),
    };
    let StepStatus {
        name,
        number,
        of,
        app,
        ..
    } = step;
    format!("step {name} ({number} of {of}), {app}: {does}")
}

/// Returns the steps done and their total; zero of zero if there are none to count.
fn steps(job: &Job) -> (u32, u32) {
    match (&job.record.progress, job.record.state) {
        (Some(progress), JobState::Running) => (progress.step, progress.steps),
        (Some(progress), _) if !job.steps.is_empty() => (progress.step, progress.steps),
        _ => (0, 0),
    }
}

fn is_loading(job: &Job) -> bool {
    let progress = job.record.progress.as_ref();
    progress.is_some_and(|progress| progress.phase == Phase::Loading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use warmq_types::job::Progress;

    /// A job that ran cold on `gpu-b`.
    fn job() -> Job {
        serde_json::from_value(json!({
            "id": "01a0a1b8-0d70-7000-8000-000000000001",
            "app": "warmq/diffusion", "hint": "digits", "priority": "normal", "input": {},
            "created_ms": 1, "state": "succeeded", "attempt": 1, "fence": 1, "runner": "gpu-b",
            "timings": {"warm": false, "load_ms": 150, "run_ms": 240},
            "output": {}
        }))
        .unwrap()
    }

    #[test]
    fn each_stage_has_its_words() {
        let mut job = job();
        job.record.state = JobState::Queued;
        job.queue_position = Some(4);
        assert_eq!(words(&job), "queued, 4 jobs ahead");
        job.record.state = JobState::Running;
        job.record.progress = Some(Progress::at(Phase::Running, 7, 20));
        assert!(
            sentence(&job).ends_with("running on gpu-b, step 7 of 20"),
            "{}",
            sentence(&job)
        );
        job.record.progress = Some(Progress::at(Phase::Loading, 60, 100));
        assert!(sentence(&job).ends_with(", 60 %"), "{}", sentence(&job));
        job.record.state = JobState::Succeeded;
        assert_eq!(
            words(&job),
            "succeeded on gpu-b, cold, in 240 ms after 150 ms of loading"
        );
    }
}
