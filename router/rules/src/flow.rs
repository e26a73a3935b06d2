//! Declared flows: routes of several steps, each a job of its own. Routers run them.

use std::time::Duration;

use serde_json::Value;
use warmq_types::ids::AppId;
use warmq_types::route::RouteKind;

use crate::evaluation_error::Error;
use crate::expression::Variables;
use crate::request::RouteRequest;
use crate::template::Template;

/// Maximum number of steps of a sequence, and of targets of a fallback.
pub const MAX_STEPS: usize = 32;

/// A declared sequence: each step can read the outputs of those before.
#[derive(Debug, PartialEq)]
pub struct Sequence {
    /// Steps, in order.
    pub steps: Vec<DeclaredStep>,
    /// Output; that of the last step if absent.
    pub output: Option<Template>,
}

/// A declared fallback: targets are tried in order until one succeeds.
#[derive(Debug, PartialEq)]
pub struct Fallback {
    /// Targets, in order.
    pub to: Vec<DeclaredStep>,
}

/// A declared step.
#[derive(Debug, PartialEq)]
pub struct DeclaredStep {
    /// Name in the route; in a fallback, the app's.
    pub name: String,
    /// Target: an app or another route.
    pub app: AppId,
    /// Input; the flow's own if absent.
    pub input: Option<Template>,
    /// Timeout from its submission to its end; unlimited if absent.
    pub timeout: Option<Duration>,
}

impl DeclaredStep {
    /// Computes its input. `request` contains the flow's own input and the outputs of earlier
    /// steps.
    pub fn input(&self, request: &RouteRequest<'_>) -> Result<Value, Error> {
        match &self.input {
            Some(template) => template.fill(&Variables::new(request)),
            None => Ok(request.input.clone()),
        }
    }
}

/// A declared flow of either kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeclaredFlow<'r> {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// Steps, in order.
    pub steps: &'r [DeclaredStep],
    /// Output, if declared.
    pub output: Option<&'r Template>,
}

impl DeclaredFlow<'_> {
    /// Computes its output: that of its template, otherwise of the last step that has one.
    /// `request` contains its own input and the outputs of its steps.
    pub fn output(&self, request: &RouteRequest<'_>) -> Result<Value, Error> {
        if let Some(template) = self.output {
            return template.fill(&Variables::new(request));
        }
        let mut last_first = self.steps.iter().rev();
        let last = last_first.find_map(|step| request.steps.get(&step.name));
        Ok(last.cloned().unwrap_or_default())
    }
}
