//! Flows: routes that take several steps, each a job of its own. Here is what they say of their
//! steps; routers run them.

use std::time::Duration;

use serde_json::Value;
use warmq_types::ids::AppId;
use warmq_types::route::RouteKind;

use crate::error::Error;
use crate::expression::Scene;
use crate::request::RouteRequest;
use crate::template::Template;

/// The most steps of a sequence, and the most choices of a fallback.
pub const MAX_STEPS: usize = 32;

/// A declared sequence: step by step, each with what came of those before.
#[derive(Debug, PartialEq)]
pub struct Sequence {
    /// The steps, the first one first.
    pub steps: Vec<Step>,
    /// What it gives; the last step's output, if it does not say.
    pub output: Option<Template>,
}

/// A declared fallback: one after the other, until one succeeds.
#[derive(Debug, PartialEq)]
pub struct Fallback {
    /// The choices, the first one first.
    pub to: Vec<Step>,
}

/// A declared step.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// Its name in the route. A fallback's choices have their apps' names.
    pub name: String,
    /// What it is submitted to: an app, or another route.
    pub app: AppId,
    /// What it is given; the flow's own input, if it does not say.
    pub input: Option<Template>,
    /// How long it may take from its submission to its end; as long as it takes, if it does not
    /// say.
    pub timeout: Option<Duration>,
}

impl Step {
    /// What it is given, where `request` holds the flow's own input and the outputs of its earlier
    /// steps.
    pub fn input(&self, request: &RouteRequest<'_>) -> Result<Value, Error> {
        match &self.input {
            Some(template) => template.fill(&Scene::new(request)),
            None => Ok(request.input.clone()),
        }
    }
}

/// A route whose submissions become flows, of either kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow<'r> {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// The steps, the first one first.
    pub steps: &'r [Step],
    /// What it gives, if it says so.
    pub output: Option<&'r Template>,
}

impl Flow<'_> {
    /// What it gives, where `request` holds its own input and the outputs of its steps: what its
    /// template says, else the output of the last step that has one.
    pub fn output(&self, request: &RouteRequest<'_>) -> Result<Value, Error> {
        if let Some(template) = self.output {
            return template.fill(&Scene::new(request));
        }
        let mut last_first = self.steps.iter().rev();
        let last = last_first.find_map(|step| request.steps.get(&step.name));
        Ok(last.cloned().unwrap_or_default())
    }
}
