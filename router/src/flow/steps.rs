//! Submits a flow's steps as ordinary jobs. They need no key and have no admission bounds, since
//! the flow was accepted.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_objects::InputError;
use warmq_rules::{DeclaredStep, Resolved, RouteRequest};
use warmq_store::{AdmissionRules, Created, Store};
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::message::FailureHistory;
use warmq_types::route::RouteKind;
use warmq_types::state::JobState;

use super::FlowView;
use crate::files::references;
use crate::large_json::{LargeJson, LargeJsonPermit};
use crate::routing_config::RoutingConfig;
use crate::submit::{
    Draft, InputStore, JobOptions, JobWriter, Prepared, Publication, SubmissionTarget, SubmitError,
    Submitter, TargetResolver,
};

/// A step to be prepared.
pub(super) struct NextStep<'a> {
    /// Index among the declared steps, from 0.
    pub(super) index: u32,
    pub(super) declared: &'a DeclaredStep,
    /// Its target when it was begun, since a second resolution may differ.
    pub(super) target: Option<Resolved>,
}

/// A cheap handle for preparing steps.
#[derive(Clone)]
pub(crate) struct StepPreparer {
    targets: TargetResolver,
    max_input_bytes: usize,
}

impl StepPreparer {
    pub(crate) fn new(targets: TargetResolver, max_input_bytes: usize) -> Self {
        Self {
            targets,
            max_input_bytes,
        }
    }

    /// Prepares the job of a step.
    ///
    /// # Errors
    /// The step is invalid, or a server is unreachable.
    pub(super) async fn prepare(
        &self,
        flow: &FlowView<'_>,
        step: NextStep<'_>,
        permit: &LargeJsonPermit,
    ) -> Result<Prepared, SubmitError> {
        let step_of = flow.step_of(step.index);
        let id = step_of.job();
        let draw = id.to_string();
        let mut input = permit.run(|| step.declared.input(&flow.request(&draw)))?;
        permit.run(|| self.check_size(&input))?;
        permit
            .run(|| references::reject_made_up(&mut input, flow.sources()))
            .map_err(SubmitError::InvalidInput)?;
        let name = &step.declared.app;
        let resolved = match step.target {
            Some(target) => target,
            None => {
                let request = RouteRequest {
                    input: &input,
                    steps: &BTreeMap::new(),
                    ..flow.request(&draw)
                };
                (self
                    .targets
                    .follow_routes(name, flow.routing, request, permit))
                .await?
            }
        };
        let target = self.targets.find(flow.routing, resolved).await?;
        // The rest of the path applies to the step that gets the flow's own input.
        let path = match flow.has_own_input(step.index) {
            true => flow.spec.path.clone(),
            false => String::new(),
        };
        permit.run(|| target.validate(&path, &mut input))?;
        let job = JobSpec {
            id,
            path,
            owner: flow.spec.owner.clone(),
            step_of: Some(step_of),
            trace: flow.spec.trace,
            ..JobSpec::new(name.clone(), input)
        };
        let draft = Draft {
            job,
            options: inherited_options(flow, step.index),
            headers: flow.headers.clone(),
        };
        match target {
            SubmissionTarget::App(target) => self.targets.job(&target, draft).await,
            SubmissionTarget::Flow(target) => Ok(Prepared::flow(target, draft, flow.routing)),
        }
    }

    /// # Errors
    /// The input exceeds the limit: it combines several values, each of which may be as large.
    fn check_size(&self, input: &Value) -> Result<(), SubmitError> {
        let bytes = serde_json::to_vec(input).map_or(0, |json| json.len());
        let max_bytes = self.max_input_bytes;
        match bytes > max_bytes {
            true => Err(SubmitError::StepTooLarge { bytes, max_bytes }),
            false => Ok(()),
        }
    }

    /// Prepares the first step of a flow before its acceptance, so that its errors are reported at
    /// once; of a fallback, the first valid one. Returns the step's job, or `prepared` if it is no
    /// flow.
    ///
    /// # Errors
    /// No step is valid.
    pub(crate) async fn first_job(
        &self,
        prepared: &Prepared,
        routing: &RoutingConfig,
        permit: &LargeJsonPermit,
    ) -> Result<JobSpec, SubmitError> {
        let declared = routing.routes.flow(&prepared.job.app);
        let Some((plan, flow)) = prepared.plan.as_ref().zip(declared) else {
            return Ok(prepared.job.clone());
        };
        let view = FlowView {
            spec: &prepared.job,
            routing,
            flow,
            headers: &plan.headers,
            outputs: &BTreeMap::new(),
            now_ms: prepared.job.created_ms,
        };
        let mut first_error = None;
        for (index, declared) in (0..).zip(flow.steps) {
            let first = async {
                let step = NextStep {
                    index,
                    declared,
                    target: None,
                };
                let prepared = self.prepare(&view, step, permit).await?;
                Box::pin(self.first_job(&prepared, routing, permit)).await
            };
            match first.await {
                Ok(job) => return Ok(job),
                Err(error) if error.is_temporary() || flow.kind == RouteKind::Sequence => {
                    return Err(error);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(SubmitError::UnknownApp(prepared.job.app.clone())))
    }
}

/// Returns the options that a step inherits, if it begins now. Hint and start timeout apply to the
/// step that gets the flow's own input; other steps have the hints that their apps derive.
fn inherited_options(flow: &FlowView<'_>, index: u32) -> JobOptions {
    let FlowView { spec, now_ms, .. } = *flow;
    let has_own_input = flow.has_own_input(index);
    let start_timeout_ms = spec.start_timeout_ms.filter(|_| has_own_input);
    JobOptions {
        hint: spec.hint.clone().filter(|_| has_own_input),
        priority: spec.priority,
        max_warm_wait_ms: spec.max_warm_wait_ms,
        start_timeout_ms: start_timeout_ms.map(|timeout_ms| {
            let deadline_ms = spec.created_ms + timeout_ms;
            deadline_ms.saturating_sub(now_ms).max(1)
        }),
        no_retry: spec.max_attempts == 1,
        no_store: spec.no_store,
        links_s: spec.links_s,
    }
}

/// A cheap handle for submitting steps.
#[derive(Clone)]
pub(super) struct StepSubmitter {
    store: Store,
    pub(super) preparer: StepPreparer,
    inputs: InputStore,
    jobs: JobWriter,
    large: LargeJson,
}

impl StepSubmitter {
    /// Returns a handle that shares the parts of `submitter`.
    pub(super) fn new(store: Store, submitter: Submitter) -> Self {
        Self {
            store,
            preparer: submitter.steps,
            inputs: submitter.inputs,
            jobs: submitter.jobs,
            large: submitter.large,
        }
    }

    /// Loads the stored input of a flow.
    pub(super) async fn load_input(&self, flow: &mut JobSpec) -> Result<(), InputError> {
        self.inputs.load(flow).await
    }

    /// Acquires a permit to compute a step's input or the flow's output.
    pub(super) async fn permit(&self, flow: &FlowView<'_>) -> LargeJsonPermit {
        self.large.permit_for(flow.sources()).await
    }

    /// Submits a step, or submits it again: it is one job and runs once. Returns false if it ended
    /// and its record expired.
    ///
    /// # Errors
    /// A server is unreachable, and the call may be repeated; or RabbitMQ never accepts the
    /// message.
    pub(super) async fn submit(
        &self,
        mut prepared: Prepared,
        permit: LargeJsonPermit,
    ) -> Result<bool, SubmitError> {
        self.inputs.store(&mut prepared.job, permit).await?;
        let job = &mut prepared.job;
        let rules = AdmissionRules {
            plan: prepared.plan.as_ref(),
            once: true,
            ..AdmissionRules::default()
        };
        let mut failures = FailureHistory::default();
        let state = match self.jobs.create(job, rules).await? {
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
        if state != Some(JobState::Queued) {
            return Ok(true);
        }
        let publication = Publication {
            job,
            is_flow: prepared.plan.is_some(),
            failures,
        };
        let published = self.jobs.publish(publication).await;
        if let Err(error) = &published
            && !error.is_temporary()
        {
            // RabbitMQ will never accept its message: without a record, the flow fails the step.
            self.jobs.withdraw(&prepared.job).await?;
        }
        published.map(|()| true)
    }

    /// Republishes a step's job, whose submitter may have crashed between record and publish. A
    /// duplicate message starts nothing.
    pub(super) async fn publish_again(&self, record: &JobRecord) -> Result<(), SubmitError> {
        if record.state != JobState::Queued {
            return Ok(());
        }
        let job = &record.spec;
        let publication = Publication {
            job,
            is_flow: record.flow.is_some(),
            failures: self
                .store
                .attempts()
                .failure_history(&job.app, job.id)
                .await?,
        };
        self.jobs.publish(publication).await
    }
}
