//! Flows: submissions to a route of several steps, each step a job of its own.
//!
//! A flow's record is a job record under the route's name, with the id that the submitter received.
//! Routers with role `flow` advance it: they submit one step after the other and record each
//! outcome.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::ids::{AppId, JobId};
use crate::job::Timings;
use crate::route::{Hop, RouteKind};
use crate::state::JobState;
use crate::unknown::UnknownFields;

/// The steps of a flow, as recorded so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// Number of declared steps.
    pub of: u32,
    /// Steps that began, in order.
    pub steps: Vec<Step>,
    /// Fields of a newer build, carried.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: UnknownFields,
}

impl Flow {
    /// Returns a flow without steps yet, of a route that declares `of`.
    pub fn new(kind: RouteKind, of: u32) -> Self {
        Self {
            kind,
            of,
            steps: Vec::new(),
            unknown: UnknownFields::new(),
        }
    }

    /// Returns the step that began last, unless it has ended.
    pub fn under_way(&self) -> Option<&Step> {
        self.steps.last().filter(|step| step.end.is_none())
    }

    /// Returns the summed timings of the ended steps; warm if all of them were warm.
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
                from_ram: false,
                run_ms: sum.run_ms + timings.run_ms,
            })
    }
}

/// A step that began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Index of the step in the declaration, from 0.
    pub index: u32,
    /// Name in the declaration.
    pub name: String,
    /// Declared target: an app, or another route.
    pub to: AppId,
    /// The app that runs it, or the route of a nested flow.
    pub app: AppId,
    /// Routes between the declared target and the app, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Hop>,
    /// Id of its job or nested flow.
    pub job: JobId,
    /// Begin, Unix ms.
    pub begun_ms: u64,
    /// Deadline for its end, Unix ms; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Reason for the choice of this step, if there was a choice; a sentence without a full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Reason why the flow abandoned the step, in a sentence. The step's job is being cancelled; a
    /// result that arrives earlier counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// End of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StepEnd>,
    /// Fields of a newer build, carried.
    #[serde(flatten)]
    #[schema(ignore)]
    pub unknown: UnknownFields,
}

/// End of a step from the flow's view: an abandoned step has failed, although its job is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepEnd {
    /// Final state.
    pub state: JobState,
    /// Time of recording, Unix ms.
    pub at_ms: u64,
    /// Timings, if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// The failure in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The step of a flow that a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepOf {
    /// The flow's route.
    pub route: AppId,
    /// The flow's id.
    pub flow: JobId,
    /// Index of the step in the declaration, from 0.
    pub index: u32,
}

impl StepOf {
    /// Returns the id of the step's job, the same for every submission of the step, so a repeated
    /// submission creates no second job. It is a UUIDv7 with the flow's time, so it sorts beside
    /// its flow; its other bits are those of SHA-256 over the flow's id and the step's index.
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
        // A valid UUIDv7 of the same millisecond.
        assert_eq!(ids[0].to_string().parse(), Ok(ids[0]));
        assert_eq!(ids[0].to_string()[..13], flow.to_string()[..13]);
    }
}
