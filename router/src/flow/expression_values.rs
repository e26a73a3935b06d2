//! The state of a flow from which the inputs of its steps are computed.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_rules::{AppLoadEstimate, DeclaredFlow, Draw, RouteRequest};
use warmq_types::flow::StepOf;
use warmq_types::ids::{AppId, KeyId};
use warmq_types::job::JobSpec;
use warmq_types::route::RouteKind;

use crate::routing_config::RoutingConfig;

/// Inputs of a flow's steps.
#[derive(Clone, Copy)]
pub(crate) struct FlowView<'a> {
    /// Job of the flow itself.
    pub(crate) spec: &'a JobSpec,
    /// Declarations at the start of the flow.
    pub(crate) routing: &'a RoutingConfig,
    pub(crate) flow: DeclaredFlow<'a>,
    /// Headers of its submission.
    pub(crate) headers: &'a BTreeMap<String, String>,
    /// Outputs of the ended steps, by step name.
    pub(crate) outputs: &'a BTreeMap<String, Value>,
    /// Current time, Unix ms.
    pub(crate) now_ms: u64,
}

impl<'a> FlowView<'a> {
    /// Returns the variables of expressions over the flow's input. `draw` seeds random choices.
    pub(super) fn request(&self, draw: &'a str) -> RouteRequest<'a> {
        static NO_LOADS: BTreeMap<AppId, AppLoadEstimate> = BTreeMap::new();
        RouteRequest {
            input: &self.spec.input,
            headers: self.headers,
            key: self.spec.owner.as_ref().map_or("", KeyId::as_str),
            draw: Draw::Job(draw),
            apps: &NO_LOADS,
            steps: self.outputs,
        }
    }

    /// Returns the values that a step's input template reads.
    pub(super) fn sources(&self) -> impl Iterator<Item = &'a Value> {
        self.outputs.values().chain([&self.spec.input])
    }

    /// Returns the identity of step number `index` (from 0).
    pub(super) fn step_of(&self, index: u32) -> StepOf {
        StepOf {
            route: self.spec.app.clone(),
            flow: self.spec.id,
            index,
        }
    }

    /// Returns whether step number `index` (from 0) receives the flow's own input.
    pub(super) fn has_own_input(&self, index: u32) -> bool {
        index == 0 || self.flow.kind == RouteKind::Fallback
    }
}
