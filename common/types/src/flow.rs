//! A flow: a submission to a route that takes several steps, each a job of its own.
//!
//! The flow has a record like a job's, under the route's name, with the id that its submitter knows. Routers run it, not runners:
//! role `flow` submits one step after the other and notes in the record what came of each.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::ids::{AppId, JobId};
use crate::job::Timings;
use crate::route::{Hop, RouteKind};
use crate::state::JobState;

/// A flow's part of its record: the steps so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// How many steps the route declares.
    pub of: u32,
    /// The steps that were begun, the first one first.
    pub steps: Vec<Step>,
}

impl Flow {
    /// One that has not begun, of a route with `of` steps.
    pub fn new(kind: RouteKind, of: u32) -> Self {
        Self {
            kind,
            of,
            steps: Vec::new(),
        }
    }

    /// The step that was begun last, if it has not ended.
    pub fn under_way(&self) -> Option<&Step> {
        self.steps.last().filter(|step| step.end.is_none())
    }

    /// What the steps that ended cost together; warm if all of them were.
    pub fn timings(&self) -> Timings {
        let ends = self.steps.iter().filter_map(|step| step.end.as_ref());
        let none = Timings {
            warm: true,
            ..Timings::default()
        };
        ends.filter_map(|end| end.timings)
            .fold(none, |sum, timings| Timings {
                warm: sum.warm && timings.warm,
                load_ms: sum.load_ms + timings.load_ms,
                run_ms: sum.run_ms + timings.run_ms,
            })
    }
}

/// A step that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Which of the declared steps, from 0.
    pub index: u32,
    /// Its name in the declaration.
    pub name: String,
    /// What the declaration says: an app, or another route.
    pub to: AppId,
    /// The app that runs it; or the route of another flow.
    pub app: AppId,
    /// How it came from the one to the other, if it went through a route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Hop>,
    /// Its job, or its flow.
    pub job: JobId,
    /// When it was begun, Unix ms.
    pub begun_ms: u64,
    /// When it must have ended, Unix ms; at any time if it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why it was begun, if there was a choice, as a sentence without its full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is waited for no longer, in a sentence: its job is being cancelled. A result that is faster counts all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StepEnd>,
}

/// How a step ended, as its flow takes it: the job of one that was given up is cancelled, and the step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepEnd {
    /// In which state.
    pub state: JobState,
    /// When that was noted, Unix ms.
    pub at_ms: u64,
    /// What it cost, if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// What went wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whose step a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepOf {
    /// The route whose flow it is.
    pub route: AppId,
    /// The flow.
    pub flow: JobId,
    /// Which of the declared steps, from 0.
    pub index: u32,
}

impl StepOf {
    /// The id of the step's job: always the same one, so whoever submits it twice submits one job. It is a UUIDv7 with the
    /// flow's time, so it sorts beside its flow; its other bits are those of SHA-256 over the flow's id and the step's number.
    pub fn job(&self) -> JobId {
        let hash = Sha256::new()
            .chain_update(self.flow.to_string())
            .chain_update(self.index.to_be_bytes())
            .finalize();
        self.flow.sibling(&hash.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_id_is_one_of_its_own_and_never_another() {
        let flow = JobId::generate();
        let step = |flow, index| {
            let route = AppId::parse("a/route").unwrap();
            StepOf { route, flow, index }.job()
        };
        let ids = [step(flow, 0), step(flow, 1), step(JobId::generate(), 0)];
        assert_eq!(ids[0], step(flow, 0));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[0] != flow);
        // Valid, and of the same millisecond.
        assert_eq!(ids[0].to_string().parse(), Ok(ids[0]));
        assert_eq!(ids[0].to_string()[..13], flow.to_string()[..13]);
    }
}
