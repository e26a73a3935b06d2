//! One look at a flow: what came of the step that is under way, and what follows. It may be made at any time.

use std::time::Duration;

use futures::future::try_join;
use warmq_objects::InputError;
use warmq_store::{FlowState, FlowTransition};
use warmq_types::attempt::Outcome;
use warmq_types::flow::Step;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobError, JobRecord};
use warmq_types::route::RouteKind;
use warmq_types::state::JobState;

use super::moved::Transition;
use super::next::{self, Next};
use super::{AGAIN, Flows};
use crate::broken::Broken;
use crate::large_json::Turn;
use crate::submit::{Prepared, SubmitError};

/// Whether a flow is where it should be.
enum Looked {
    /// It is: something is waited for, or it ended.
    Done,
    /// Somebody else moved it meanwhile, or a step is to be seen that was just cancelled.
    Again,
}

/// Whether a step that waits is known to be in its app's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing speaks against it. Should its message be lost all the same, the app's leader finds that out.
    Heard,
    /// Whoever submitted it may have died before it was.
    Unsure,
}

impl Flows {
    /// Looks at a flow and does what is due.
    ///
    /// # Errors
    /// A server is away. The flow is looked at again.
    pub(super) async fn look(
        &self,
        route: &AppId,
        id: JobId,
        mut doubt: Doubt,
    ) -> Result<(), Broken> {
        loop {
            let Some(state) = self.store.flow(route, id).await? else {
                tracing::debug!(flow.id = %id, %route, "there is no such flow any more");
                return Ok(self.store.unwatch_flow(route, id).await?);
            };
            let looked = match state.record.state.is_terminal() {
                true => self.look_at_ended(state).await?,
                false => self.look_at_running(state, doubt).await?,
            };
            doubt = Doubt::Heard;
            if let Looked::Done = looked {
                return Ok(());
            }
        }
    }

    /// Sees to it that nothing of a flow that ended goes on, and that everybody knows.
    async fn look_at_ended(&self, state: FlowState) -> Result<Looked, Broken> {
        let FlowState { record, flow, .. } = &state;
        let (route, id) = (&record.spec.app, record.spec.id);
        self.endings.cancel_under_way(flow).await?;
        if self.store.is_in_outbox(route, id).await? {
            self.endings.announce(&record.spec, record.state).await?;
        }
        self.store.unwatch_flow(route, id).await?;
        Ok(Looked::Done)
    }

    async fn look_at_running(&self, state: FlowState, doubt: Doubt) -> Result<Looked, Broken> {
        let declared = match self.versions.read(&state.excerpt) {
            Ok(declared) => declared,
            Err(problems) => return self.break_off(state, problems.to_string()).await,
        };
        let Some(flow) = declared.routes.flow(&state.record.spec.app) else {
            let lost = "its excerpt does not declare its route".to_owned();
            return self.break_off(state, lost).await;
        };
        let mut moved = Transition::of(state, &declared, flow);
        if let Some(step) = moved.state.flow.under_way().cloned() {
            let record = match self.store.job_of(&step.app, step.job).await {
                Err(error) if error.is_damage() => {
                    tracing::error!(flow.id = %moved.state.record.spec.id, %error, "a flow's step cannot be read");
                    moved.end_with(lost_result("its record is damaged"));
                    return self.go_on(moved).await;
                }
                record => record?,
            };
            let Some(record) = record else {
                return self.submit_again(moved, &step).await;
            };
            if !record.state.is_terminal() {
                if doubt == Doubt::Unsure {
                    let published = self.submitter.publish_step_again(&record).await;
                    published.map_err(temporary)?;
                }
                return self.wait(moved, step, &record).await;
            }
            moved.ended(record);
        }
        self.go_on(moved).await
    }

    /// A step is under way: it is waited for, or given up.
    async fn wait(
        &self,
        mut moved: Transition<'_>,
        step: Step,
        record: &JobRecord,
    ) -> Result<Looked, Broken> {
        if step.given_up.is_none() {
            let has_runners = self.runners_of(&moved).await?;
            let is_waiting = self.is_waiting(record).await?;
            let now_ms = moved.state.now_ms;
            let reason = next::give_up(moved.flow, &step, is_waiting, now_ms, has_runners);
            let Some(reason) = reason else {
                let wait = next::look_after(moved.flow, &step, is_waiting, now_ms);
                self.watch(&moved, wait).await?;
                return Ok(Looked::Done);
            };
            // First the note: whoever sees the job cancelled must know that nobody's wish it was.
            moved.give_up(reason);
            if let FlowTransition::Elsewhere = self.advance(&moved).await? {
                return Ok(Looked::Again);
            }
        }
        self.endings.cancel_under_way(&moved.state.flow).await?;
        Ok(Looked::Again)
    }

    /// Whether a job waits for a runner; of a flow, whether its step does.
    async fn is_waiting(&self, record: &JobRecord) -> Result<bool, Broken> {
        let Some(flow) = &record.flow else {
            return Ok(record.state.is_waiting());
        };
        let Some(step) = flow.under_way() else {
            return Ok(false);
        };
        match self.store.job_of(&step.app, step.job).await? {
            Some(record) => Box::pin(self.is_waiting(&record)).await,
            None => Ok(false),
        }
    }

    /// No step is under way: the next one is begun, or the flow ends.
    async fn go_on(&self, mut moved: Transition<'_>) -> Result<Looked, Broken> {
        loop {
            let has_runners = self.runners_of(&moved).await?;
            let (index, reason) = match next::next(moved.flow, &moved.state.flow, has_runners) {
                Next::Begin { index, reason } => (index, reason),
                Next::Succeed => return self.succeed(moved).await,
                Next::Fail => return self.fail(moved).await,
            };
            if let Err(error) = self
                .submitter
                .load_input(&mut moved.state.record.spec)
                .await
            {
                return self.without_input(moved, error).await;
            }
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let step = &moved.flow.steps[index];
            let turn = self.submitter.turn_for(&moved.view()).await;
            let prepared = self
                .submitter
                .prepare_step(&moved.view(), (number, step), None, &turn)
                .await;
            match prepared {
                Ok(prepared) => {
                    let wait = moved.begun(number, step, &prepared, reason);
                    return self.begin(moved, (prepared, turn), wait).await;
                }
                Err(error) => {
                    let error = refusal(error)?;
                    moved.refused(number, step, reason, error);
                }
            }
        }
    }

    /// Notes that a step is begun, then submits it.
    async fn begin(
        &self,
        moved: Transition<'_>,
        (prepared, turn): (Prepared, Turn),
        wait: Duration,
    ) -> Result<Looked, Broken> {
        // At once: whoever dies in between leaves a flow that is watched all the same, since it was accepted or moved last.
        let (advanced, ()) = try_join(self.advance(&moved), self.watch(&moved, wait)).await?;
        match advanced {
            FlowTransition::On => match self.submitter.submit_step(prepared, turn).await {
                Ok(true) => self.submitted(&moved).await,
                // It ended already: the next look finds no record.
                Ok(false) => Ok(Looked::Again),
                Err(error) => self.not_submitted(&moved, error).await,
            },
            FlowTransition::Elsewhere => Ok(Looked::Again),
        }
    }

    /// A step was begun and could not be submitted. Unless a server is away, the next look finds out why, and ends it.
    async fn not_submitted(
        &self,
        moved: &Transition<'_>,
        error: SubmitError,
    ) -> Result<Looked, Broken> {
        match error {
            SubmitError::Storage(error) => self.await_storage(moved, error).await,
            error if error.is_temporary() => Err(temporary(error)),
            _ => Ok(Looked::Again),
        }
    }

    /// The storage fails, which holds up this flow and no other.
    async fn await_storage(
        &self,
        moved: &Transition<'_>,
        error: warmq_objects::Error,
    ) -> Result<Looked, Broken> {
        tracing::warn!(flow.id = %moved.state.record.spec.id, %error, "the storage fails; a flow is due again soon");
        self.watch(moved, AGAIN).await?;
        Ok(Looked::Done)
    }

    /// The flow's own input cannot be read.
    async fn without_input(
        &self,
        moved: Transition<'_>,
        error: InputError,
    ) -> Result<Looked, Broken> {
        match error {
            InputError::Storage(error) => self.await_storage(&moved, error).await,
            lost => self.break_off(moved.state, lost.to_string()).await,
        }
    }

    /// A step was begun and has no job: who began it died before submitting it.
    async fn submit_again(&self, mut moved: Transition<'_>, step: &Step) -> Result<Looked, Broken> {
        let Some(declared) = moved.flow.steps.get(step.index as usize) else {
            let lost = format!("its excerpt does not declare its step {}", step.name);
            return self.break_off(moved.state, lost).await;
        };
        let led = Some((step.app.clone(), step.route.clone()));
        if let Err(error) = self
            .submitter
            .load_input(&mut moved.state.record.spec)
            .await
        {
            return self.without_input(moved, error).await;
        }
        let wait = next::look_after(moved.flow, step, true, moved.state.now_ms);
        self.watch(&moved, wait).await?;
        let turn = self.submitter.turn_for(&moved.view()).await;
        let submitted = async {
            let (view, declared) = (moved.view(), (step.index, declared));
            let prepared = self.submitter.prepare_step(&view, declared, led, &turn);
            self.submitter.submit_step(prepared.await?, turn).await
        };
        match submitted.await {
            Ok(true) => self.submitted(&moved).await,
            Ok(false) => {
                // It ran while no router looked at the flow; it must not run again.
                moved.end_with(lost_result("it was kept for too short a time"));
                self.go_on(moved).await
            }
            Err(SubmitError::Storage(error)) => self.await_storage(&moved, error).await,
            Err(error) => {
                moved.end_with(refusal(error)?);
                self.go_on(moved).await
            }
        }
    }

    /// A step's job is there.
    async fn submitted(&self, moved: &Transition<'_>) -> Result<Looked, Broken> {
        let flow = &moved.state.record.spec;
        // Whoever cancelled the flow before found no job to cancel.
        match self.store.state_of(&flow.app, flow.id).await? {
            Some(state) if !state.is_terminal() => Ok(Looked::Done),
            _ => Ok(Looked::Again),
        }
    }

    async fn succeed(&self, mut moved: Transition<'_>) -> Result<Looked, Broken> {
        if let Err(error) = self
            .submitter
            .load_input(&mut moved.state.record.spec)
            .await
        {
            return self.without_input(moved, error).await;
        }
        let id = moved.state.record.spec.id.to_string();
        let turn = self.submitter.turn_for(&moved.view()).await;
        let output = turn.run(|| moved.flow.output(&moved.view().asked(&id)));
        drop(turn);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                moved.error = Some(JobError::internal("internal_error", error.to_string()));
                return self.fail(moved).await;
            }
        };
        let steps = moved.state.flow.steps.len();
        let told = match moved.state.flow.kind {
            RouteKind::Fallback => "succeeded".to_owned(),
            _ => format!("succeeded: all {steps} steps"),
        };
        moved.lines.push(("INFO", told));
        self.end(moved, JobState::Succeeded, Outcome::Succeeded(output))
            .await
    }

    async fn fail(&self, mut moved: Transition<'_>) -> Result<Looked, Broken> {
        let error = moved.error.take().unwrap_or_else(|| {
            JobError::internal("internal_error", "a step failed without a reason")
        });
        let (state, error) = next::failure(&moved.state.flow, error);
        moved
            .lines
            .push(("ERROR", format!("{state}: {}", error.message)));
        let outcome = match state {
            JobState::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed(error),
        };
        self.end(moved, state, outcome).await
    }

    /// Ends a flow that can not be run by this router.
    async fn break_off(&self, state: FlowState, reason: String) -> Result<Looked, Broken> {
        let error = JobError::internal(
            "internal_error",
            format!("the flow can not go on: {reason}"),
        );
        let lines = [("ERROR", format!("failed: {}", error.message))];
        let ended = (self.store)
            .end_flow(&state, JobState::Failed, &Outcome::Failed(error), &lines)
            .await?;
        tracing::error!(flow.id = %state.record.spec.id, ?ended, reason, "a flow can not go on");
        Ok(Looked::Again)
    }

    async fn end(
        &self,
        moved: Transition<'_>,
        state: JobState,
        outcome: Outcome,
    ) -> Result<Looked, Broken> {
        let Transition {
            state: flow, lines, ..
        } = &moved;
        let ended = self.store.end_flow(flow, state, &outcome, lines).await?;
        if let FlowTransition::On = ended {
            let spec = &flow.record.spec;
            self.count(&moved);
            self.metrics.flow(&spec.app, state);
            tracing::debug!(flow.id = %spec.id, route = %spec.app, %state, "a flow ended");
        }
        // Whoever looks at it next announces it.
        Ok(Looked::Again)
    }

    async fn advance(&self, moved: &Transition<'_>) -> Result<FlowTransition, Broken> {
        let Transition { state, lines, .. } = moved;
        let is_first = state.flow.steps.len() == 1;
        let to = match is_first && state.flow.under_way().is_some() {
            true => JobState::Dispatched,
            false => JobState::Running,
        };
        let advanced = self.store.advance_flow(state, to, lines).await?;
        if let FlowTransition::On = advanced {
            self.count(moved);
        }
        Ok(advanced)
    }

    fn count(&self, moved: &Transition<'_>) {
        let route = &moved.state.record.spec.app;
        for step in &moved.ended {
            let state = step.end.as_ref().map_or(JobState::Failed, |end| end.state);
            let outcome = match (&step.given_up, state) {
                (Some(_), JobState::Failed) => "given_up",
                (_, state) => state.as_str(),
            };
            self.metrics.flow_step(route, &step.name, outcome);
        }
    }

    async fn watch(&self, moved: &Transition<'_>, wait: Duration) -> Result<(), Broken> {
        let flow = &moved.state.record.spec;
        Ok(self.store.watch_flow(&flow.app, flow.id, wait).await?)
    }

    /// Whether there are live runners for a step's target; asked only where that makes a difference.
    async fn runners_of<'m>(
        &self,
        moved: &Transition<'m>,
    ) -> Result<impl Fn(&AppId) -> bool + use<'m>, Broken> {
        let targets = match moved.flow.kind {
            RouteKind::Fallback => moved.flow.steps,
            _ => &[],
        };
        let targets: Vec<&AppId> = targets.iter().map(|step| &step.app).collect();
        let found = self.apps.with_runners(moved.declared, &targets).await?;
        Ok(move |target: &AppId| found.contains(target))
    }
}

/// What a step comes to whose result nobody can read.
fn lost_result(why: &str) -> JobError {
    JobError::internal(
        "internal_error",
        format!("the step's result is lost: {why}"),
    )
}

/// What a step comes to that can not be submitted.
///
/// # Errors
/// It can later: a server is away.
fn refusal(error: SubmitError) -> Result<JobError, Broken> {
    match error.is_temporary() {
        true => Err(temporary(error)),
        false => Ok(error.to_job_error()),
    }
}

fn temporary(error: SubmitError) -> Broken {
    match error {
        SubmitError::Store(error) => error.into(),
        SubmitError::Publish(error) => error.into(),
        other => Broken::Step(other.to_string()),
    }
}
