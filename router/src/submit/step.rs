//! Submission of a flow's steps as ordinary jobs. They need no key and have no admission bounds,
//! since the flow was accepted.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_rules::{Asked, Draw, Flow, Step};
use warmq_store::{AdmissionRules, Created};
use warmq_types::flow::StepOf;
use warmq_types::ids::{AppId, KeyId};
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::message::FailureHistory;
use warmq_types::route::{Hop, RouteKind};
use warmq_types::state::JobState;

use super::options::JobOptions;
use super::target::Target;
use super::{Prepared, SubmitError, Submitter};
use crate::files::references;
use crate::large_json::Turn;
use crate::routing_config::RoutingConfig;

/// Inputs of a flow's steps.
#[derive(Clone, Copy)]
pub struct FlowView<'a> {
    /// Job of the flow itself.
    pub spec: &'a JobSpec,
    /// Declarations at the start of the flow.
    pub declared: &'a RoutingConfig,
    pub(crate) flow: Flow<'a>,
    /// Headers of its submission.
    pub headers: &'a BTreeMap<String, String>,
    /// Outputs of the ended steps, by step name.
    pub outputs: &'a BTreeMap<String, Value>,
    /// Current time, Unix ms.
    pub now_ms: u64,
}

impl<'a> FlowView<'a> {
    /// Returns the variables of expressions over the flow's input. `draw` seeds random choices.
    pub fn asked(&self, draw: &'a str) -> Asked<'a> {
        static NOTHING: BTreeMap<AppId, warmq_rules::AppLoadEstimate> = BTreeMap::new();
        Asked {
            input: &self.spec.input,
            headers: self.headers,
            key: self.spec.owner.as_ref().map_or("", KeyId::as_str),
            draw: Draw::Job(draw),
            apps: &NOTHING,
            steps: self.outputs,
        }
    }

    /// Returns the variables of a step's input template.
    fn sources(&self) -> impl Iterator<Item = &'a Value> {
        self.outputs.values().chain([&self.spec.input])
    }

    /// Returns the identity of step number `index` (from 0).
    pub fn step_of(&self, index: u32) -> StepOf {
        StepOf {
            route: self.spec.app.clone(),
            flow: self.spec.id,
            index,
        }
    }
}

impl Submitter {
    /// Prepares the job of a step. `led`: its target when it was begun, since a second resolution
    /// might differ.
    ///
    /// # Errors
    /// The step is invalid, or a server is unreachable.
    pub async fn prepare_step(
        &self,
        flow: &FlowView<'_>,
        (index, step): (u32, &Step),
        led: Option<(AppId, Vec<Hop>)>,
        turn: &Turn,
    ) -> Result<Prepared, SubmitError> {
        let step_of = flow.step_of(index);
        let id = step_of.job();
        let draw = id.to_string();
        let mut input = turn.run(|| step.input(&flow.asked(&draw)))?;
        turn.run(|| self.fits(&input))?;
        turn.run(|| references::refuse_made_up(&mut input, flow.sources()))
            .map_err(SubmitError::InvalidInput)?;
        let destination = match led {
            Some((app, hops)) => self.target_of(flow.declared, app, hops).await?,
            None => self.lead(flow, step, (&input, turn), &draw).await?,
        };
        let mut job = JobSpec {
            id,
            // The rest of the path applies to the step that gets the flow's own input.
            path: match index == 0 || flow.flow.kind == RouteKind::Fallback {
                true => flow.spec.path.clone(),
                false => String::new(),
            },
            owner: flow.spec.owner.clone(),
            step_of: Some(step_of),
            ..JobSpec::new(step.app.clone(), input)
        };
        let options = JobOptions::of_step(flow.spec, flow.flow.kind, index, flow.now_ms);
        match destination {
            Target::App(reached) => {
                turn.run(|| reached.takes(&mut job.input))?;
                Prepared::job(reached, job, options)
            }
            Target::Flow(route) => {
                let headers = flow.headers.clone();
                Prepared::flow(route, (job, options), (flow.declared, headers))
            }
        }
    }

    /// # Errors
    /// The input exceeds the limit: it combines several values, each of which may be as large.
    fn fits(&self, input: &Value) -> Result<(), SubmitError> {
        let bytes = serde_json::to_vec(input).map_or(0, |json| json.len());
        match bytes > self.max_input_bytes {
            true => Err(SubmitError::StepTooLarge {
                bytes,
                most: self.max_input_bytes,
            }),
            false => Ok(()),
        }
    }

    /// Resolves the target of a step with this input.
    async fn lead(
        &self,
        flow: &FlowView<'_>,
        step: &Step,
        (input, turn): (&Value, &Turn),
        draw: &str,
    ) -> Result<Target, SubmitError> {
        let apps = self.apps.loads_for(flow.declared, &step.app).await?;
        let asked = Asked {
            input,
            apps: &apps,
            steps: &BTreeMap::new(),
            ..flow.asked(draw)
        };
        let resolved = turn.run(|| flow.declared.routes.resolve(&step.app, &asked))?;
        self.target_of(flow.declared, resolved.app, resolved.hops)
            .await
    }

    /// Submits a step, or submits it again: it is one job and runs once. Returns false if it ended
    /// and its record expired.
    ///
    /// # Errors
    /// A server is unreachable, and the call may be repeated; or RabbitMQ never accepts the
    /// message.
    pub async fn submit_step(
        &self,
        mut prepared: Prepared,
        turn: Turn,
    ) -> Result<bool, SubmitError> {
        self.store_input(&mut prepared.job, turn).await?;
        let job = &mut prepared.job;
        let terms = AdmissionRules {
            plan: prepared.plan.as_ref(),
            once: true,
            ..AdmissionRules::default()
        };
        let mut failures = FailureHistory::default();
        let state = match self.record(job, terms).await? {
            Created::Ended => return Ok(false),
            Created::Known { .. } => {
                failures = self
                    .store
                    .attempts()
                    .failure_history(&job.app, job.id)
                    .await?;
                self.store.jobs().state_of(&job.app, job.id).await?
            }
            Created::New { created_ms, .. } => {
                // By Redis' clock, which measures the progress of lanes.
                job.created_ms = created_ms;
                Some(JobState::Queued)
            }
            // Steps have no bounds.
            Created::Full { .. } | Created::Busy => Some(JobState::Queued),
        };
        if state == Some(JobState::Queued)
            && let Err(error) = (self.publish(job, prepared.plan.is_some(), failures)).await
        {
            // RabbitMQ will never accept its message: without a record, the flow fails the step.
            if !error.is_temporary() && self.store.jobs().withdraw(&job.app, job.id).await? {
                self.drop_input(prepared.job.stored_input, None).await;
            }
            return Err(error);
        }
        Ok(true)
    }

    /// Acquires a permit to build a step's input.
    pub async fn turn_for(&self, flow: &FlowView<'_>) -> Turn {
        self.large.turn_for(flow.sources()).await
    }

    /// Republishes a step's job, whose submitter may have crashed between record and publish. A
    /// duplicate message starts nothing.
    ///
    /// # Errors
    /// A server is unreachable.
    pub async fn publish_step_again(&self, record: &JobRecord) -> Result<(), SubmitError> {
        match record.state {
            JobState::Queued => {
                let job = &record.spec;
                let failures = self
                    .store
                    .attempts()
                    .failure_history(&job.app, job.id)
                    .await?;
                self.publish(job, record.flow.is_some(), failures).await
            }
            _ => Ok(()),
        }
    }

    /// Prepares the first step of a flow before acceptance, so that its errors are reported at
    /// once; of a fallback, the first valid one.
    ///
    /// # Errors
    /// No step is valid.
    pub(super) async fn beginning(
        &self,
        prepared: &Prepared,
        declared: &RoutingConfig,
        turn: &Turn,
    ) -> Result<JobSpec, SubmitError> {
        let Some((plan, flow)) =
            (prepared.plan.as_ref()).zip(declared.routes.flow(&prepared.job.app))
        else {
            return Ok(prepared.job.clone());
        };
        let view = FlowView {
            spec: &prepared.job,
            declared,
            flow,
            headers: &plan.headers,
            outputs: &BTreeMap::new(),
            now_ms: prepared.job.created_ms,
        };
        let mut refused = None;
        for (index, step) in (0..).zip(flow.steps) {
            let first = async {
                let step = (index, step);
                let prepared = self.prepare_step(&view, step, None, turn).await?;
                Box::pin(self.beginning(&prepared, declared, turn)).await
            };
            match first.await {
                Ok(job) => return Ok(job),
                Err(error) if error.is_temporary() || flow.kind == RouteKind::Sequence => {
                    return Err(error);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(SubmitError::UnknownApp(prepared.job.app.clone())))
    }
}
