//! A flow's steps: ordinary jobs that routers submit, by the door that all jobs come in by. Nobody
//! is asked for a key, and no bound counts, since the flow was accepted.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_rules::{Asked, Draw, Flow, Step};
use warmq_store::{AdmissionRules, Created};
use warmq_types::flow::StepOf;
use warmq_types::ids::{AppId, KeyId};
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::message::Setbacks;
use warmq_types::route::{Hop, RouteKind};
use warmq_types::state::JobState;

use super::options::JobOptions;
use super::target::Target;
use super::{Prepared, SubmitError, Submitter};
use crate::files::references;
use crate::large_json::Turn;
use crate::routing_config::RoutingConfig;

/// What the steps of a flow are made of.
#[derive(Clone, Copy)]
pub struct FlowView<'a> {
    /// The flow's own job.
    pub spec: &'a JobSpec,
    /// What was declared when it began.
    pub declared: &'a RoutingConfig,
    /// Its route.
    pub flow: Flow<'a>,
    /// What came with its submission.
    pub headers: &'a BTreeMap<String, String>,
    /// What came of its steps so far, by their names.
    pub outputs: &'a BTreeMap<String, Value>,
    /// Now, Unix ms.
    pub now_ms: u64,
}

impl<'a> FlowView<'a> {
    /// What expressions see, over the flow's own input. A step's choices are drawn by its own id.
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

    /// What a step's input is made of.
    fn sources(&self) -> impl Iterator<Item = &'a Value> {
        self.outputs.values().chain([&self.spec.input])
    }

    /// Whose step number `index` (from 0) is.
    pub fn step_of(&self, index: u32) -> StepOf {
        StepOf {
            route: self.spec.app.clone(),
            flow: self.spec.id,
            index,
        }
    }
}

impl Submitter {
    /// The job of a step, not recorded yet. `led`: where it went when it was begun, if it was; a
    /// second time it might go elsewhere.
    ///
    /// # Errors
    /// There can be no such job; or a server is away.
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
            // The rest of the path is meant for whoever gets the flow's own input.
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
    /// The input is too large: it is made of several things, each of which may have been as large
    /// as is allowed.
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

    /// Where a step goes that is begun with this input.
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

    /// Submits a step, or submits it again: it is one job, and runs once. False: it ended, and its
    /// record was kept long enough.
    ///
    /// # Errors
    /// A server is away, and the same call may be made again; or RabbitMQ never takes such a
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
        let mut setbacks = Setbacks::default();
        let state = match self.record(job, terms).await? {
            Created::Ended => return Ok(false),
            Created::Known { .. } => {
                setbacks = self.store.setbacks(&job.app, job.id).await?;
                self.store.state_of(&job.app, job.id).await?
            }
            Created::New { created_ms, .. } => {
                // By Redis' clock, which tells how far a lane has come.
                job.created_ms = created_ms;
                Some(JobState::Queued)
            }
            // Nothing bounds it.
            Created::Full { .. } | Created::Busy => Some(JobState::Queued),
        };
        if state == Some(JobState::Queued)
            && let Err(error) = (self.publish(job, prepared.plan.is_some(), setbacks)).await
        {
            // No message of it will ever be taken: without a record, the flow sees that it was not
            // begun.
            if !error.is_temporary() && self.store.discard(&job.app, job.id).await? {
                self.drop_input(prepared.job.stored_input, None).await;
            }
            return Err(error);
        }
        Ok(true)
    }

    /// Waits for a turn to make a step's input of what `flow` has.
    pub async fn turn_for(&self, flow: &FlowView<'_>) -> Turn {
        self.large.turn_for(flow.sources()).await
    }

    /// Publishes a step's job again, whose submitter may have died between record and queue. If it
    /// did not, that is one message too many, which starts nothing.
    ///
    /// # Errors
    /// A server is away.
    pub async fn publish_step_again(&self, record: &JobRecord) -> Result<(), SubmitError> {
        match record.state {
            JobState::Queued => {
                let job = &record.spec;
                let setbacks = self.store.setbacks(&job.app, job.id).await?;
                self.publish(job, record.flow.is_some(), setbacks).await
            }
            _ => Ok(()),
        }
    }

    /// The first job of a flow that is not accepted yet, for those who would refuse it at the door.
    /// Of a fallback the first that is possible at all.
    ///
    /// # Errors
    /// There is none.
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
