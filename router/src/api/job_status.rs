//! Status of a job for its submitter; that of a flow includes its current step.

use std::collections::{HashMap, HashSet};

use warmq_store::{Error, JobHead, JobSnapshot, LogLine, Store};
use warmq_types::flow::{Flow, Step};
use warmq_types::http::StepStatus;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Progress;
use warmq_types::state::JobState;

/// Status of a job at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobStatus {
    pub(super) state: JobState,
    /// Progress, while it or its step runs.
    pub(super) progress: Option<Progress>,
    /// Number of jobs in front of it, while it or its first step waits.
    pub(super) queue_position: Option<u64>,
    /// The current step of a flow.
    pub(super) steps: Vec<StepStatus>,
    /// New log lines, including those of its steps.
    pub(super) log: Vec<LogLine>,
}

/// Log lines of a job and its steps that were read.
#[derive(Default)]
pub(super) struct Seen {
    lines: HashMap<JobId, usize>,
    /// Steps that had ended and were read completely.
    ended: HashSet<JobId>,
}

/// Reads a job's status with new log lines; `None` without a record.
pub(super) async fn read_status(
    store: &Store,
    (app, id): (&AppId, JobId),
    seen: &mut Seen,
) -> Result<Option<JobStatus>, Error> {
    let lines = seen.lines.get(&id).copied().unwrap_or(0);
    let Some(snapshot) = store.log().snapshot(app, id, lines).await? else {
        return Ok(None);
    };
    seen.lines.insert(id, lines + snapshot.log.len());
    let JobSnapshot {
        state,
        progress,
        flow,
        queue_position,
        log,
    } = snapshot;
    let mut status = JobStatus {
        state,
        progress,
        queue_position,
        steps: Vec::new(),
        log,
    };
    if let Some(flow) = flow {
        for step in &flow.steps {
            if seen.ended.contains(&step.job) {
                continue;
            }
            let of_step = Box::pin(read_status(store, (&step.app, step.job), seen)).await?;
            if let Some(of_step) = of_step {
                status.add(&flow, step, of_step);
            }
            if step.end.is_some() {
                seen.ended.insert(step.job);
            }
        }
        status.log.sort_by_key(|line| line.at_ms);
    }
    Ok(Some(status))
}

impl JobStatus {
    /// Returns the status of a job that is no flow, without its log.
    pub(super) fn of(job: &JobHead) -> Self {
        Self {
            state: job.record.state,
            progress: job.record.progress.clone(),
            queue_position: job.queue_position,
            steps: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Adds the status of a step.
    fn add(&mut self, flow: &Flow, step: &Step, of_step: Self) {
        self.log.extend(of_step.log);
        if self.state.is_terminal() || step.end.is_some() {
            return;
        }
        // A flow is in progress from its first run on, also while a later step waits.
        let has_begun = self.state == JobState::Running || !of_step.state.is_waiting();
        self.state = match has_begun {
            true => JobState::Running,
            false => of_step.state,
        };
        self.queue_position = of_step.queue_position.filter(|_| !has_begun);
        self.progress = of_step.progress;
        self.steps.push(StepStatus {
            name: step.name.clone(),
            number: step.index + 1,
            of: flow.of,
            app: step.app.clone(),
            request_id: step.job,
            status: of_step.state.into(),
            queue_position: of_step.queue_position,
        });
        self.steps.extend(of_step.steps);
    }
}
