//! What a flow's steps would be given and where they would lead, as far as the flow's own input decides it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use warmq_rules::{Draw, Error, Flow, Resolved, Routes, Step};
use warmq_types::ids::{AppId, JobId};
use warmq_types::route::RouteKind;
use warmq_types::text::shortened;

use super::{Sample, way};
use crate::time;

/// How much of an input is shown, bytes.
const LONGEST_INPUT: usize = 300;

/// The steps of a flow that nobody runs.
#[derive(Debug)]
pub struct StepsTrial {
    /// `sequence` or `fallback`.
    pub kind: RouteKind,
    /// The steps, the first one first.
    pub steps: Vec<StepTrial>,
    /// What the flow gives, as it is written; none if the last step's output.
    pub output: Option<Value>,
}

/// One of them.
#[derive(Debug)]
pub struct StepTrial {
    name: String,
    app: AppId,
    timeout: Option<Duration>,
    input: Given,
    /// Where it leads, or why it would be refused. None if that depends on earlier steps.
    way: Option<Result<Resolved, Error>>,
    /// The kind of flow that it becomes, if it does.
    becomes: Option<RouteKind>,
}

/// What a step is given.
#[derive(Debug)]
enum Given {
    /// The flow's own input.
    Same,
    /// This.
    Made(Value),
    /// What comes of this once earlier steps have ended.
    Later(Value),
    /// Nothing: its template does not fit the input.
    None(Error),
}

impl StepsTrial {
    /// Tries the steps of `flow` with its own input.
    pub(super) fn of(routes: &Routes, flow: &Flow<'_>, sample: &Sample) -> Self {
        let steps = flow.steps.iter();
        Self {
            kind: flow.kind,
            steps: steps
                .map(|step| StepTrial::of(routes, step, sample))
                .collect(),
            output: flow.output.map(warmq_rules::Template::written),
        }
    }

    /// Why it would fail for sure: the first reason.
    pub(super) fn error(&self) -> Option<&Error> {
        self.steps.iter().find_map(StepTrial::error)
    }
}

impl StepTrial {
    fn of(routes: &Routes, step: &Step, sample: &Sample) -> Self {
        let input = match &step.input {
            None => Given::Same,
            Some(template) if template.sees_steps() => Given::Later(template.written()),
            Some(_) => match super::with_asked(sample, Draw::Job(""), |asked| step.input(asked)) {
                Ok(input) => Given::Made(input),
                Err(error) => Given::None(error),
            },
        };
        let lead = |input: &Value| {
            let job = JobId::generate().to_string();
            let sample = Sample {
                input: input.clone(),
                ..sample.clone()
            };
            way(routes, &step.app, &sample, Draw::Job(&job))
        };
        let decides = routes.get(&step.app).is_some_and(|to| to.flow().is_none());
        let way = match &input {
            Given::Same => Some(lead(&sample.input)),
            Given::Made(input) => Some(lead(input)),
            Given::Later(_) if decides => None,
            Given::Later(_) => Some(lead(&Value::Null)),
            Given::None(_) => None,
        };
        let end = way.as_ref().and_then(|way| way.as_ref().ok());
        let becomes = end.and_then(|end| Some(routes.flow(&end.app)?.kind));
        Self {
            name: step.name.clone(),
            app: step.app.clone(),
            timeout: step.timeout,
            input,
            way,
            becomes,
        }
    }

    fn error(&self) -> Option<&Error> {
        match (&self.input, &self.way) {
            (Given::None(error), _) | (_, Some(Err(error))) => Some(error),
            _ => None,
        }
    }

    /// `draw → acme/draw`: its name, what it is submitted to, and where that leads.
    fn told(&self) -> String {
        let mut names = vec![self.name.clone(), self.app.to_string()];
        match &self.way {
            Some(Ok(resolved)) => names.push(resolved.app.to_string()),
            Some(Err(_)) => names.push("refused".to_owned()),
            None if matches!(self.input, Given::None(_)) => names.push("refused".to_owned()),
            None => names.push("depends on earlier steps".to_owned()),
        }
        names.dedup();
        let becomes = (self.becomes).map(|kind| format!(" ({})", kind.as_str()));
        names.join(" → ") + &becomes.unwrap_or_default()
    }
}

impl fmt::Display for StepsTrial {
    /// Several lines, each with a line break before it.
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

impl fmt::Display for StepTrial {
    /// Several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.told())?;
        if let Some(timeout) = self.timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            write!(f, ", within {}", time::duration(ms))?;
        }
        match &self.input {
            Given::Same | Given::None(_) => {}
            Given::Made(input) => write!(f, "\n     input: {}", short(input))?,
            Given::Later(written) => write!(f, "\n     input, to be filled: {}", short(written))?,
        }
        if let Some(Ok(resolved)) = &self.way {
            for hop in &resolved.hops {
                write!(f, "\n     {}", super::told(hop))?;
            }
        }
        match self.error() {
            Some(error) => write!(f, "\n     {error}"),
            None => Ok(()),
        }
    }
}

fn short(value: &Value) -> String {
    shortened(value.to_string(), LONGEST_INPUT)
}

impl Serialize for StepsTrial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = json!({"kind": self.kind, "steps": self.steps, "output": self.output});
        steps.serialize(serializer)
    }
}

impl Serialize for StepTrial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let resolved = self.way.as_ref().and_then(|way| way.as_ref().ok());
        let (input, template) = match &self.input {
            Given::Made(input) => (Some(input), None),
            Given::Later(written) => (None, Some(written)),
            Given::Same | Given::None(_) => (None, None),
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
