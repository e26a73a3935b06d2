//! A job in a list.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JobError, JobRecord, Priority, Timings};
use crate::flow::{Flow, StepOf};
use crate::hint::Hint;
use crate::ids::{AppId, JobId, KeyId, RunnerId};
use crate::route::RouteKind;
use crate::state::JobState;
use crate::text::shortened;

/// Maximum length of an error's message in a list, bytes.
const MAX_MESSAGE_BYTES: usize = 500;

/// A job in a list: the small fields of its record, under the same names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    /// Identifier of the job.
    pub id: JobId,
    /// The app that runs it; for a flow, its route.
    pub app: AppId,
    /// The route that it was submitted to, if one chose the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_to: Option<AppId>,
    /// Current state.
    pub state: JobState,
    /// Model that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// The key that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<KeyId>,
    /// Its lane.
    pub priority: Priority,
    /// Number of attempts that began.
    pub attempt: u32,
    /// Time of acceptance, Unix ms.
    pub created_ms: u64,
    /// Time of the latest placement, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatched_ms: Option<u64>,
    /// Begin of the latest attempt, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Time of the end, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// The runner that has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerId>,
    /// Timings of the run, after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// The error, after failure: its message shortened, without details per field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Kind and progress of a flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowSummary>,
    /// The flow that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_of: Option<StepOf>,
}

impl JobSummary {
    /// Returns the time until its latest start, or until now while it waits, ms; `None` if it ended
    /// without a start.
    pub fn waited_ms(&self, now_ms: u64) -> Option<u64> {
        let until_ms = match self.state.is_waiting() {
            true => Some(now_ms),
            false => self.started_ms,
        };
        until_ms.map(|until_ms| until_ms.saturating_sub(self.created_ms))
    }

    /// Returns how long the latest attempt ran, or has been running, ms; `None` while it waits.
    pub fn ran_ms(&self, now_ms: u64) -> Option<u64> {
        let until_ms = match self.state {
            JobState::Running => now_ms,
            _ => self.finished_ms?,
        };
        Some(until_ms.saturating_sub(self.started_ms?))
    }
}

/// A flow in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowSummary {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// Number of steps that began.
    pub step: usize,
    /// Number of declared steps.
    pub of: u32,
}

impl From<&Flow> for FlowSummary {
    fn from(flow: &Flow) -> Self {
        Self {
            kind: flow.kind,
            step: flow.steps.len(),
            of: flow.of,
        }
    }
}

impl From<JobRecord> for JobSummary {
    fn from(record: JobRecord) -> Self {
        let JobRecord { spec, .. } = record;
        Self {
            id: spec.id,
            submitted_to: spec.route.first().map(|hop| hop.route.clone()),
            app: spec.app,
            state: record.state,
            hint: spec.hint,
            owner: spec.owner,
            priority: spec.priority,
            attempt: record.attempt,
            created_ms: spec.created_ms,
            dispatched_ms: record.dispatched_ms,
            started_ms: record.started_ms,
            finished_ms: record.finished_ms,
            runner: record.runner,
            timings: record.timings,
            error: record.error.map(|error| JobError {
                message: shortened(error.message, MAX_MESSAGE_BYTES),
                detail: Vec::new(),
                ..error
            }),
            flow: record.flow.as_ref().map(FlowSummary::from),
            step_of: spec.step_of,
        }
    }
}
