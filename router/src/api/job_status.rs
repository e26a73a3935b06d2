//! How a job stands, as its submitter sees it: a job by itself, a flow by the step that is under
//! way.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;
use warmq_store::{Error, JobHead, JobSnapshot, LogLine, Store};
use warmq_types::flow::{Flow, Step};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Progress;
use warmq_types::state::JobState;

/// fal's names of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = StatusName)]
pub(super) enum StatusName {
    /// It waits for a runner.
    InQueue,
    /// A runner has it.
    InProgress,
    /// It has ended, well or badly.
    Completed,
}

/// How a job stands at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobStatus {
    pub(super) state: JobState,
    /// How far it is, while it or its step runs.
    pub(super) progress: Option<Progress>,
    /// Jobs in front of it, while it or its first step waits.
    pub(super) queue_position: Option<u64>,
    /// The step that is under way, if it is a flow.
    pub(super) steps: Vec<StepView>,
    /// Lines of its log that are new, and of its steps' logs.
    pub(super) log: Vec<LogLine>,
}

/// A step of a flow that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = StepStatus)]
pub(super) struct StepView {
    /// Its name in the route.
    name: String,
    /// Which of the route's steps, from 1.
    number: u32,
    /// How many there are.
    of: u32,
    /// The app that runs it, or the route of a flow of its own.
    app: AppId,
    /// Its own job, which can be asked for like any other.
    request_id: JobId,
    status: StatusName,
    /// Jobs in front of it, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u64>,
}

/// What was read of the logs of a job and its steps.
#[derive(Default)]
pub(super) struct Seen {
    lines: HashMap<JobId, usize>,
    /// Steps that had ended then: nothing of them is new any more.
    ended: HashSet<JobId>,
}

/// How a job stands, with the lines that were not seen; `None` if there is no record of it (any
/// more).
///
/// # Errors
/// Redis is away.
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

impl From<JobState> for StatusName {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued | JobState::Dispatched => Self::InQueue,
            JobState::Running => Self::InProgress,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Expired => {
                Self::Completed
            }
        }
    }
}

impl JobStatus {
    /// How a job stands that is no flow, without its log.
    pub(super) fn of(job: &JobHead) -> Self {
        Self {
            state: job.record.state,
            progress: job.record.progress.clone(),
            queue_position: job.queue_position,
            steps: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Adds how a step stands.
    fn add(&mut self, flow: &Flow, step: &Step, of_step: Self) {
        self.log.extend(of_step.log);
        if self.state.is_terminal() || step.end.is_some() {
            return;
        }
        // Once something of it ran, it is in progress, also while a later step waits.
        let has_begun = self.state == JobState::Running || !of_step.state.is_waiting();
        self.state = match has_begun {
            true => JobState::Running,
            false => of_step.state,
        };
        self.queue_position = of_step.queue_position.filter(|_| !has_begun);
        self.progress = of_step.progress;
        self.steps.push(StepView {
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
