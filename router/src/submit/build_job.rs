//! Builds the job of a valid submission: for its app's lane, or, as a flow, for the flow role.

use std::collections::BTreeMap;

use warmq_store::FlowPlan;
use warmq_types::flow::Flow;
use warmq_types::job::JobSpec;

use super::SubmitError;
use super::options::{JobOptions, use_input_hint};
use super::target::{FlowTarget, TargetApp};
use crate::routing_config::RoutingConfig;

/// A job without the settings of its target.
pub(crate) struct Draft {
    pub(crate) job: JobSpec,
    pub(crate) options: JobOptions,
    /// Headers that the expressions of a flow's steps read, by lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
}

/// A valid job before its record.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) job: JobSpec,
    /// The plan of a flow.
    pub(crate) plan: Option<FlowPlan>,
}

impl Prepared {
    /// Builds a job for the target app.
    ///
    /// # Errors
    /// The hint in its input is invalid.
    pub(crate) fn job(target: &TargetApp, draft: Draft) -> Result<Self, SubmitError> {
        let Draft { job, options, .. } = draft;
        let job = JobSpec {
            app: target.id.clone(),
            route: target.hops.clone(),
            ..job
        };
        let mut job = options.apply(job, &target.app.config);
        if let Some(path) = target.app.hint_path() {
            use_input_hint(&mut job, path)?;
        }
        Ok(Self { job, plan: None })
    }

    /// Builds a flow along a route of `routing`.
    pub(crate) fn flow(target: FlowTarget, draft: Draft, routing: &RoutingConfig) -> Self {
        let plan = FlowPlan {
            flow: Flow::new(target.kind, target.of),
            excerpt: routing.excerpt(&target.route),
            headers: draft.headers,
        };
        let job = JobSpec {
            app: target.route,
            route: target.hops,
            ..draft.job
        };
        Self {
            job: draft.options.apply_to_flow(job),
            plan: Some(plan),
        }
    }
}
