//! Evaluates a flow: reads the current step's result, decides what follows, and does it.

use std::time::Duration;

use futures::future::try_join;
use warmq_objects::InputError;
use warmq_rules::Resolved;
use warmq_store::{FlowState, FlowUpdate, Store};
use warmq_types::attempt::Outcome;
use warmq_types::flow::Step;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobError, JobRecord};
use warmq_types::route::RouteKind;
use warmq_types::state::JobState;

use super::RETRY_DELAY;
use super::decide::{self, NextAction};
use super::excerpts::Excerpts;
use super::steps::{NextStep, StepSubmitter};
use super::transition::FlowTransition;
use crate::apps::AppDirectory;
use crate::finalizer::Finalizer;
use crate::metrics::Metrics;
use crate::session_error::SessionError;
use crate::submit::SubmitError;

/// Result of an evaluation.
enum Evaluated {
    /// Nothing is due: the flow waits for an event, or ended.
    Done,
    /// Another router changed the flow, or a step was just cancelled: evaluate again.
    Again,
}

/// Whether the current step was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepPublish {
    /// As far as known; the app's leader reconciles lost messages.
    Done,
    /// Its submitter may have crashed before the publish.
    Unsure,
}

/// Evaluates flows.
#[derive(Clone)]
pub(super) struct Evaluator {
    pub(super) store: Store,
    pub(super) steps: StepSubmitter,
    pub(super) finalizer: Finalizer,
    pub(super) apps: AppDirectory,
    pub(super) metrics: Metrics,
    pub(super) excerpts: Excerpts,
}

impl Evaluator {
    /// Evaluates a flow and does what is due.
    ///
    /// # Errors
    /// A server is unreachable. The flow is evaluated again.
    pub(super) async fn evaluate(
        &self,
        route: &AppId,
        id: JobId,
        mut published_step: StepPublish,
    ) -> Result<(), SessionError> {
        loop {
            let Some(state) = self.store.flows().get(route, id).await? else {
                tracing::debug!(flow.id = %id, %route, "the flow no longer exists");
                return Ok(self.store.flows().unschedule(route, id).await?);
            };
            let evaluated = match state.record.state.is_terminal() {
                true => self.settle_ended(state).await?,
                false => self.evaluate_running(state, published_step).await?,
            };
            published_step = StepPublish::Done;
            if let Evaluated::Done = evaluated {
                return Ok(());
            }
        }
    }

    /// Cancels the current step of an ended flow, and publishes its pending event.
    async fn settle_ended(&self, state: FlowState) -> Result<Evaluated, SessionError> {
        let FlowState { record, flow, .. } = &state;
        let (route, id) = (&record.spec.app, record.spec.id);
        self.finalizer.cancel_under_way(flow).await?;
        if self.store.flows().is_in_outbox(route, id).await? {
            self.finalizer.announce(&record.spec, record.state).await?;
        }
        self.store.flows().unschedule(route, id).await?;
        Ok(Evaluated::Done)
    }

    async fn evaluate_running(
        &self,
        state: FlowState,
        published_step: StepPublish,
    ) -> Result<Evaluated, SessionError> {
        let routing = match self.excerpts.read(&state.excerpt) {
            Ok(routing) => routing,
            Err(problems) => return self.fail_unrunnable(state, problems.to_string()).await,
        };
        let Some(flow) = routing.routes.flow(&state.record.spec.app) else {
            let reason = "its excerpt does not declare its route".to_owned();
            return self.fail_unrunnable(state, reason).await;
        };
        let mut transition = FlowTransition::of(state, &routing, flow);
        if let Some(step) = transition.state.flow.under_way().cloned() {
            let record = match self.store.jobs().job_of(&step.app, step.job).await {
                Err(error) if error.is_damage() => {
                    tracing::error!(flow.id = %transition.state.record.spec.id, %error, "a flow's step cannot be read");
                    transition.end_with(lost_result("its record is damaged"));
                    return self.go_on(transition).await;
                }
                record => record?,
            };
            let Some(record) = record else {
                return self.submit_again(transition, &step).await;
            };
            if !record.state.is_terminal() {
                if published_step == StepPublish::Unsure {
                    let published = self.steps.publish_again(&record).await;
                    published.map_err(temporary)?;
                }
                return self.wait(transition, step, &record).await;
            }
            transition.ended(record);
        }
        self.go_on(transition).await
    }

    /// Waits for the current step, or gives it up.
    async fn wait(
        &self,
        mut transition: FlowTransition<'_>,
        step: Step,
        record: &JobRecord,
    ) -> Result<Evaluated, SessionError> {
        if step.given_up.is_none() {
            let has_runners = self.runners_of(&transition).await?;
            let is_waiting = self.is_waiting(record).await?;
            let now_ms = transition.state.now_ms;
            let reason = decide::give_up(transition.flow, &step, is_waiting, now_ms, has_runners);
            let Some(reason) = reason else {
                let wait = decide::recheck_after(transition.flow, &step, is_waiting, now_ms);
                self.schedule(&transition, wait).await?;
                return Ok(Evaluated::Done);
            };
            // Store the reason first, so that the cancellation is not attributed to a user.
            transition.give_up(reason);
            if let FlowUpdate::Conflict = self.store_transition(&transition).await? {
                return Ok(Evaluated::Again);
            }
        }
        self.finalizer
            .cancel_under_way(&transition.state.flow)
            .await?;
        Ok(Evaluated::Again)
    }

    /// Returns whether a job waits for a runner; for a flow, whether its step does.
    async fn is_waiting(&self, record: &JobRecord) -> Result<bool, SessionError> {
        let Some(flow) = &record.flow else {
            return Ok(record.state.is_waiting());
        };
        let Some(step) = flow.under_way() else {
            return Ok(false);
        };
        match self.store.jobs().job_of(&step.app, step.job).await? {
            Some(record) => Box::pin(self.is_waiting(&record)).await,
            None => Ok(false),
        }
    }

    /// Begins the next step, or ends the flow.
    async fn go_on(&self, mut transition: FlowTransition<'_>) -> Result<Evaluated, SessionError> {
        loop {
            let has_runners = self.runners_of(&transition).await?;
            let (index, reason) =
                match decide::decide(transition.flow, &transition.state.flow, has_runners) {
                    NextAction::Begin { index, reason } => (index, reason),
                    NextAction::Succeed => return self.succeed(transition).await,
                    NextAction::Fail => return self.fail(transition).await,
                };
            let spec = &mut transition.state.record.spec;
            if let Err(error) = self.steps.load_input(spec).await {
                return self.without_input(transition, error).await;
            }
            let step_index = u32::try_from(index).unwrap_or(u32::MAX);
            let step = &transition.flow.steps[index];
            let permit = self.steps.permit(&transition.view()).await;
            let next = NextStep {
                index: step_index,
                declared: step,
                target: None,
            };
            let preparer = &self.steps.preparer;
            match preparer.prepare(&transition.view(), next, &permit).await {
                Ok(prepared) => {
                    let wait = transition.begun(step_index, step, &prepared, reason);
                    let submission = self.steps.submit(prepared, permit);
                    return self.begin(transition, submission, wait).await;
                }
                Err(error) => {
                    let error = refusal(error)?;
                    transition.refused(step_index, step, reason, error);
                }
            }
        }
    }

    /// Stores that a step begins, then awaits its submission.
    async fn begin(
        &self,
        transition: FlowTransition<'_>,
        submission: impl Future<Output = Result<bool, SubmitError>>,
        wait: Duration,
    ) -> Result<Evaluated, SessionError> {
        // Concurrently: a crash in between leaves the flow scheduled by its acceptance or last
        // transition.
        let (advanced, ()) = try_join(
            self.store_transition(&transition),
            self.schedule(&transition, wait),
        )
        .await?;
        match advanced {
            FlowUpdate::Stored => match submission.await {
                Ok(true) => self.submitted(&transition).await,
                // The flow ended meanwhile: the next evaluation finds no step.
                Ok(false) => Ok(Evaluated::Again),
                Err(error) => self.not_submitted(&transition, error).await,
            },
            FlowUpdate::Conflict => Ok(Evaluated::Again),
        }
    }

    /// Handles a failed submission of a step. Unless a server is unreachable, the next evaluation
    /// ends the step with the reason.
    async fn not_submitted(
        &self,
        transition: &FlowTransition<'_>,
        error: SubmitError,
    ) -> Result<Evaluated, SessionError> {
        match error {
            SubmitError::Storage(error) => self.await_storage(transition, error).await,
            error if error.is_temporary() => Err(temporary(error)),
            _ => Ok(Evaluated::Again),
        }
    }

    /// Delays the flow while the storage fails; others proceed.
    async fn await_storage(
        &self,
        transition: &FlowTransition<'_>,
        error: warmq_objects::Error,
    ) -> Result<Evaluated, SessionError> {
        tracing::warn!(flow.id = %transition.state.record.spec.id, %error, "the storage failed; the flow is retried");
        self.schedule(transition, RETRY_DELAY).await?;
        Ok(Evaluated::Done)
    }

    /// Handles an unreadable input of the flow.
    async fn without_input(
        &self,
        transition: FlowTransition<'_>,
        error: InputError,
    ) -> Result<Evaluated, SessionError> {
        match error {
            InputError::Storage(error) => self.await_storage(&transition, error).await,
            lost => {
                self.fail_unrunnable(transition.state, lost.to_string())
                    .await
            }
        }
    }

    /// Submits a begun step without a job, whose router crashed before the submission.
    async fn submit_again(
        &self,
        mut transition: FlowTransition<'_>,
        step: &Step,
    ) -> Result<Evaluated, SessionError> {
        let Some(declared) = transition.flow.steps.get(step.index as usize) else {
            let reason = format!("its excerpt does not declare its step {}", step.name);
            return self.fail_unrunnable(transition.state, reason).await;
        };
        let spec = &mut transition.state.record.spec;
        if let Err(error) = self.steps.load_input(spec).await {
            return self.without_input(transition, error).await;
        }
        let wait = decide::recheck_after(transition.flow, step, true, transition.state.now_ms);
        self.schedule(&transition, wait).await?;
        let permit = self.steps.permit(&transition.view()).await;
        let submitted = async {
            let next = NextStep {
                index: step.index,
                declared,
                target: Some(Resolved {
                    app: step.app.clone(),
                    hops: step.route.clone(),
                }),
            };
            let view = transition.view();
            let prepared = self.steps.preparer.prepare(&view, next, &permit);
            self.steps.submit(prepared.await?, permit).await
        };
        match submitted.await {
            Ok(true) => self.submitted(&transition).await,
            Ok(false) => {
                // It ran before this evaluation and must not run again.
                transition.end_with(lost_result("its retention was too short"));
                self.go_on(transition).await
            }
            Err(SubmitError::Storage(error)) => self.await_storage(&transition, error).await,
            Err(error) => {
                transition.end_with(refusal(error)?);
                self.go_on(transition).await
            }
        }
    }

    /// Checks the flow after the submission of a step.
    async fn submitted(&self, transition: &FlowTransition<'_>) -> Result<Evaluated, SessionError> {
        let flow = &transition.state.record.spec;
        // A cancellation before the submission found no job.
        match self.store.jobs().state_of(&flow.app, flow.id).await? {
            Some(state) if !state.is_terminal() => Ok(Evaluated::Done),
            _ => Ok(Evaluated::Again),
        }
    }

    async fn succeed(&self, mut transition: FlowTransition<'_>) -> Result<Evaluated, SessionError> {
        let spec = &mut transition.state.record.spec;
        if let Err(error) = self.steps.load_input(spec).await {
            return self.without_input(transition, error).await;
        }
        let id = transition.state.record.spec.id.to_string();
        let permit = self.steps.permit(&transition.view()).await;
        let output = permit.run(|| transition.flow.output(&transition.view().request(&id)));
        drop(permit);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                transition.error = Some(JobError::internal("internal_error", error.to_string()));
                return self.fail(transition).await;
            }
        };
        let steps = transition.state.flow.steps.len();
        let line = match transition.state.flow.kind {
            RouteKind::Fallback => "succeeded".to_owned(),
            _ => format!("succeeded: all {steps} steps"),
        };
        transition.lines.push(("INFO", line));
        self.end(transition, JobState::Succeeded, Outcome::Succeeded(output))
            .await
    }

    async fn fail(&self, mut transition: FlowTransition<'_>) -> Result<Evaluated, SessionError> {
        let error = transition.error.take().unwrap_or_else(|| {
            JobError::internal("internal_error", "a step failed without a reason")
        });
        let (state, error) = decide::failure(&transition.state.flow, error);
        transition
            .lines
            .push(("ERROR", format!("{state}: {}", error.message)));
        let outcome = match state {
            JobState::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed(error),
        };
        self.end(transition, state, outcome).await
    }

    /// Fails a flow that this router cannot run.
    async fn fail_unrunnable(
        &self,
        state: FlowState,
        reason: String,
    ) -> Result<Evaluated, SessionError> {
        let error = JobError::internal(
            "internal_error",
            format!("the flow cannot continue: {reason}"),
        );
        let lines = [("ERROR", format!("failed: {}", error.message))];
        let ended = (self.store)
            .flows()
            .end(&state, JobState::Failed, &Outcome::Failed(error), &lines)
            .await?;
        tracing::error!(flow.id = %state.record.spec.id, ?ended, reason, "a flow cannot continue");
        Ok(Evaluated::Again)
    }

    async fn end(
        &self,
        transition: FlowTransition<'_>,
        state: JobState,
        outcome: Outcome,
    ) -> Result<Evaluated, SessionError> {
        let FlowTransition {
            state: flow, lines, ..
        } = &transition;
        let ended = self.store.flows().end(flow, state, &outcome, lines).await?;
        if let FlowUpdate::Stored = ended {
            let spec = &flow.record.spec;
            self.count(&transition);
            self.metrics.flow(&spec.app, state);
            tracing::debug!(flow.id = %spec.id, route = %spec.app, %state, "a flow ended");
        }
        // The next evaluation publishes the event.
        Ok(Evaluated::Again)
    }

    async fn store_transition(
        &self,
        transition: &FlowTransition<'_>,
    ) -> Result<FlowUpdate, SessionError> {
        let FlowTransition { state, lines, .. } = transition;
        let is_first = state.flow.steps.len() == 1;
        let to = match is_first && state.flow.under_way().is_some() {
            true => JobState::Dispatched,
            false => JobState::Running,
        };
        let advanced = self.store.flows().advance(state, to, lines).await?;
        if let FlowUpdate::Stored = advanced {
            self.count(transition);
        }
        Ok(advanced)
    }

    fn count(&self, transition: &FlowTransition<'_>) {
        let route = &transition.state.record.spec.app;
        for step in &transition.ended {
            let state = step.end.as_ref().map_or(JobState::Failed, |end| end.state);
            let outcome = match (&step.given_up, state) {
                (Some(_), JobState::Failed) => "given_up",
                (_, state) => state.as_str(),
            };
            self.metrics.flow_step(route, &step.name, outcome);
        }
    }

    async fn schedule(
        &self,
        transition: &FlowTransition<'_>,
        wait: Duration,
    ) -> Result<(), SessionError> {
        let flow = &transition.state.record.spec;
        Ok(self
            .store
            .flows()
            .schedule(&flow.app, flow.id, wait)
            .await?)
    }

    /// Returns whether targets have live runners; queried only for fallbacks.
    async fn runners_of<'m>(
        &self,
        transition: &FlowTransition<'m>,
    ) -> Result<impl Fn(&AppId) -> bool + use<'m>, SessionError> {
        let targets = match transition.flow.kind {
            RouteKind::Fallback => transition.flow.steps,
            _ => &[],
        };
        let targets: Vec<&AppId> = targets.iter().map(|step| &step.app).collect();
        let found = self
            .apps
            .loads
            .with_runners(transition.routing, &targets)
            .await?;
        Ok(move |target: &AppId| found.contains(target))
    }
}

/// Returns the error of a step whose result is unreadable.
fn lost_result(why: &str) -> JobError {
    JobError::internal(
        "internal_error",
        format!("the step's result is lost: {why}"),
    )
}

/// Returns the error of a step that cannot be submitted.
///
/// # Errors
/// The submission may succeed later: a server is unreachable.
fn refusal(error: SubmitError) -> Result<JobError, SessionError> {
    match error.is_temporary() {
        true => Err(temporary(error)),
        false => Ok(error.to_job_error()),
    }
}

fn temporary(error: SubmitError) -> SessionError {
    match error {
        SubmitError::Store(error) => error.into(),
        SubmitError::Publish(error) => error.into(),
        other => SessionError::Step(other.to_string()),
    }
}
