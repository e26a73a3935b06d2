//! A transition of a flow: the changes of one evaluation before they are stored.

use std::time::Duration;

use warmq_store::{FlowLine, FlowState};
use warmq_types::flow::{Step, StepEnd};
use warmq_types::job::{JobError, JobRecord};
use warmq_types::state::JobState;
use warmq_types::unknown::UnknownFields;

use super::{FlowView, decide};
use crate::routing_config::RoutingConfig;
use crate::submit::Prepared;

/// A flow with unstored changes.
pub(super) struct FlowTransition<'a> {
    pub(super) state: FlowState,
    pub(super) routing: &'a RoutingConfig,
    pub(super) flow: warmq_rules::DeclaredFlow<'a>,
    pub(super) lines: Vec<FlowLine>,
    /// Steps that end with this transition.
    pub(super) ended: Vec<Step>,
    /// Error of the last failed step.
    pub(super) error: Option<JobError>,
}

impl<'a> FlowTransition<'a> {
    /// Starts from a stored state. `routing`: the declarations at its start.
    pub(super) fn of(
        state: FlowState,
        routing: &'a RoutingConfig,
        flow: warmq_rules::DeclaredFlow<'a>,
    ) -> Self {
        Self {
            state,
            routing,
            flow,
            lines: Vec::new(),
            ended: Vec::new(),
            error: None,
        }
    }

    /// Returns the inputs of its steps.
    pub(super) fn view(&self) -> FlowView<'_> {
        FlowView {
            spec: &self.state.record.spec,
            routing: self.routing,
            flow: self.flow,
            headers: &self.state.headers,
            outputs: &self.state.outputs,
            now_ms: self.state.now_ms,
        }
    }

    /// Ends the current step as its job's record says.
    pub(super) fn ended(&mut self, record: JobRecord) {
        let now_ms = self.state.now_ms;
        let Some(step) = self.state.flow.steps.last_mut() else {
            return;
        };
        let end = decide::end_of(step, &record, now_ms);
        self.error = record.failure();
        self.lines.push(end_line(step, &end));
        if record.state == JobState::Succeeded {
            let mut output = record.output.unwrap_or_default();
            record.spec.stamp_model_version(&mut output);
            self.state.outputs.insert(step.name.clone(), output);
        }
        step.end = Some(end);
        self.ended.push(step.clone());
    }

    /// Ends the current step with an internal error.
    pub(super) fn end_with(&mut self, error: JobError) {
        let Some(step) = self.state.flow.steps.last_mut() else {
            return;
        };
        let end = StepEnd {
            state: JobState::Failed,
            at_ms: self.state.now_ms,
            timings: None,
            error: Some(error.message.clone()),
        };
        self.lines.push(end_line(step, &end));
        step.end = Some(end);
        self.ended.push(step.clone());
        self.error = Some(error);
    }

    pub(super) fn give_up(&mut self, reason: String) {
        if let Some(step) = self.state.flow.steps.last_mut() {
            let line = format!("{} is given up: {reason}", name(step));
            self.lines.push(("WARN", line));
            step.given_up = Some(reason);
        }
    }

    /// Begins a step with this job. Returns the delay of the next evaluation.
    pub(super) fn begun(
        &mut self,
        index: u32,
        declared: &warmq_rules::DeclaredStep,
        prepared: &Prepared,
        reason: Option<String>,
    ) -> Duration {
        let job = &prepared.job;
        let step = Step {
            app: job.app.clone(),
            route: job.route.clone(),
            ..self.step(index, declared, reason)
        };
        let (number, of) = (index + 1, self.state.flow.of);
        let because = step.reason.as_ref();
        let because = because.map(|reason| format!(", since {reason}"));
        let line = format!(
            "{} ({number} of {of}) is begun: {} as {}{}",
            name(&step),
            step.app,
            step.job,
            because.unwrap_or_default()
        );
        self.lines.push(("INFO", line));
        let wait = decide::recheck_after(self.flow, &step, true, self.state.now_ms);
        self.state.flow.steps.push(step);
        wait
    }

    /// Ends a step that cannot begin.
    pub(super) fn refused(
        &mut self,
        index: u32,
        declared: &warmq_rules::DeclaredStep,
        reason: Option<String>,
        error: JobError,
    ) {
        let step = self.step(index, declared, reason);
        self.state.flow.steps.push(step);
        self.end_with(error);
    }

    /// Returns a step that begins now, with its declared target.
    fn step(
        &self,
        index: u32,
        declared: &warmq_rules::DeclaredStep,
        reason: Option<String>,
    ) -> Step {
        let now_ms = self.state.now_ms;
        let within = declared.timeout.map(|time| time.as_millis());
        let within = within.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        Step {
            index,
            name: declared.name.clone(),
            to: declared.app.clone(),
            app: declared.app.clone(),
            route: Vec::new(),
            job: self.view().step_of(index).job(),
            begun_ms: now_ms,
            until_ms: within.map(|within_ms| now_ms.saturating_add(within_ms)),
            reason,
            given_up: None,
            end: None,
            unknown: UnknownFields::new(),
        }
    }
}

/// Returns `step draw`; for a fallback, whose steps are named after apps, that name.
fn name(step: &Step) -> String {
    match step.name == step.to.as_str() {
        true => step.name.clone(),
        false => format!("step {}", step.name),
    }
}

fn end_line(step: &Step, end: &StepEnd) -> FlowLine {
    let level = match end.state {
        JobState::Succeeded => "INFO",
        _ => "ERROR",
    };
    let error = end.error.as_ref();
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    (level, format!("{} {}{error}", name(step), end.state))
}
