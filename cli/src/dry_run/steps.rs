//! The steps of a flow: their inputs and targets, as far as the flow's input determines them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use warmq_rules::{DeclaredFlow, DeclaredStep, Draw, Error, Resolved, Routes};
use warmq_types::ids::{AppId, JobId};
use warmq_types::route::RouteKind;
use warmq_types::text::shortened;

use super::{Sample, resolve};
use crate::time;

/// Length limit of a displayed input, bytes.
const MAX_INPUT_BYTES: usize = 300;

/// The steps of a flow.
#[derive(Debug)]
pub struct FlowDryRun {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// The steps, in order.
    pub steps: Vec<StepDryRun>,
    /// The flow's output template; `None` for the last step's output.
    pub output: Option<Value>,
}

/// A step.
#[derive(Debug)]
pub struct StepDryRun {
    name: String,
    app: AppId,
    timeout: Option<Duration>,
    input: StepInput,
    /// The target, or why the step would be rejected. `None` if that depends on earlier steps.
    resolve: Option<Result<Resolved, Error>>,
    /// The kind of the nested flow, if it becomes one.
    becomes: Option<RouteKind>,
}

/// A step's input.
#[derive(Debug)]
enum StepInput {
    /// The flow's own input.
    Same,
    /// A computed input.
    Computed(Value),
    /// A template that needs the output of earlier steps.
    Later(Value),
    /// The template has no value for the flow's input.
    Invalid(Error),
}

impl FlowDryRun {
    /// Resolves the steps of `flow` with its own input.
    pub(super) fn of(routes: &Routes, flow: &DeclaredFlow<'_>, sample: &Sample) -> Self {
        let steps = flow.steps.iter();
        Self {
            kind: flow.kind,
            steps: steps
                .map(|step| StepDryRun::of(routes, step, sample))
                .collect(),
            output: flow.output.map(warmq_rules::Template::written),
        }
    }

    /// Returns the first reason why the flow would certainly fail.
    pub(super) fn error(&self) -> Option<&Error> {
        self.steps.iter().find_map(StepDryRun::error)
    }
}

impl StepDryRun {
    fn of(routes: &Routes, step: &DeclaredStep, sample: &Sample) -> Self {
        let input = match &step.input {
            None => StepInput::Same,
            Some(template) if template.reads_steps() => StepInput::Later(template.written()),
            Some(_) => {
                match super::with_request(sample, Draw::Job(""), |request| step.input(request)) {
                    Ok(input) => StepInput::Computed(input),
                    Err(error) => StepInput::Invalid(error),
                }
            }
        };
        let lead = |input: &Value| {
            let job = JobId::generate().to_string();
            let sample = Sample {
                input: input.clone(),
                ..sample.clone()
            };
            resolve(routes, &step.app, &sample, Draw::Job(&job))
        };
        let decides = routes.get(&step.app).is_some_and(|to| to.flow().is_none());
        let resolve = match &input {
            StepInput::Same => Some(lead(&sample.input)),
            StepInput::Computed(input) => Some(lead(input)),
            StepInput::Later(_) if decides => None,
            StepInput::Later(_) => Some(lead(&Value::Null)),
            StepInput::Invalid(_) => None,
        };
        let end = resolve.as_ref().and_then(|resolve| resolve.as_ref().ok());
        let becomes = end.and_then(|end| Some(routes.flow(&end.app)?.kind));
        Self {
            name: step.name.clone(),
            app: step.app.clone(),
            timeout: step.timeout,
            input,
            resolve,
            becomes,
        }
    }

    fn error(&self) -> Option<&Error> {
        match (&self.input, &self.resolve) {
            (StepInput::Invalid(error), _) | (_, Some(Err(error))) => Some(error),
            _ => None,
        }
    }

    /// Formats name, submitted target and resolved target: `draw → acme/draw`.
    fn summary(&self) -> String {
        let mut names = vec![self.name.clone(), self.app.to_string()];
        match &self.resolve {
            Some(Ok(resolved)) => names.push(resolved.app.to_string()),
            Some(Err(_)) => names.push("refused".to_owned()),
            None if matches!(self.input, StepInput::Invalid(_)) => names.push("refused".to_owned()),
            None => names.push("depends on earlier steps".to_owned()),
        }
        names.dedup();
        let becomes = (self.becomes).map(|kind| format!(" ({})", kind.as_str()));
        names.join(" → ") + &becomes.unwrap_or_default()
    }
}

impl fmt::Display for FlowDryRun {
    /// Formats several lines, each preceded by a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps.iter().enumerate() {
            write!(f, "\n  {}. {step}", n + 1)?;
        }
        match &self.output {
            Some(output) => write!(f, "\n  output: {}", short(output)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StepDryRun {
    /// Formats several lines, without a trailing line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary())?;
        if let Some(timeout) = self.timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            write!(f, ", within {}", time::duration(ms))?;
        }
        match &self.input {
            StepInput::Same | StepInput::Invalid(_) => {}
            StepInput::Computed(input) => write!(f, "\n     input: {}", short(input))?,
            StepInput::Later(written) => {
                write!(f, "\n     input, to be filled: {}", short(written))?
            }
        }
        if let Some(Ok(resolved)) = &self.resolve {
            for hop in &resolved.hops {
                write!(f, "\n     {}", super::format_hop(hop))?;
            }
        }
        match self.error() {
            Some(error) => write!(f, "\n     {error}"),
            None => Ok(()),
        }
    }
}

fn short(value: &Value) -> String {
    shortened(value.to_string(), MAX_INPUT_BYTES)
}

impl Serialize for FlowDryRun {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = json!({"kind": self.kind, "steps": self.steps, "output": self.output});
        steps.serialize(serializer)
    }
}

impl Serialize for StepDryRun {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let resolved = self
            .resolve
            .as_ref()
            .and_then(|resolve| resolve.as_ref().ok());
        let (input, template) = match &self.input {
            StepInput::Computed(input) => (Some(input), None),
            StepInput::Later(written) => (None, Some(written)),
            StepInput::Same | StepInput::Invalid(_) => (None, None),
        };
        let step = json!({
            "name": self.name,
            "to": self.app,
            "app": resolved.map(|resolved| &resolved.app),
            "hops": resolved.map(|resolved| &resolved.hops),
            "input": input,
            "template": template,
            "timeout_s": self.timeout.map(|timeout| timeout.as_secs_f64()),
            "error": self.error().map(Error::to_string),
        });
        step.serialize(serializer)
    }
}
