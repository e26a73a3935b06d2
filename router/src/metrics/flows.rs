//! Flows and their steps, as the router counts them that sees them end. What labels there are is
//! what the file declares.

use metrics::{Key, Label, Recorder};
use warmq_types::ids::AppId;
use warmq_types::state::JobState;

use super::Metrics;
use super::app::METADATA;
use super::names::{FLOW_STEPS, FLOWS};

impl Metrics {
    /// A flow of the route ended.
    pub fn flow(&self, route: &AppId, state: JobState) {
        let labels = vec![
            Label::new("route", route.to_string()),
            Label::from_static_parts("outcome", state.as_str()),
        ];
        let key = Key::from_parts(FLOWS.name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// A step of a flow of the route ended. `outcome`: a state, or `given_up`.
    pub fn flow_step(&self, route: &AppId, step: &str, outcome: &'static str) {
        let labels = vec![
            Label::new("route", route.to_string()),
            Label::new("step", step.to_owned()),
            Label::from_static_parts("outcome", outcome),
        ];
        let key = Key::from_parts(FLOW_STEPS.name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }
}
