//! A valid submission, ready to be recorded and published: a job for its app's lane, or a flow for
//! the flow role.

use std::collections::BTreeMap;
use std::time::Duration;

use warmq_broker::{Message, PublishError};
use warmq_store::{AdmissionRules, Created, FlowPlan};
use warmq_types::flow::Flow;
use warmq_types::hint::HintSource;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{FailureHistory, JobEvent, JobMessage, Versioned};
use warmq_types::state::JobState;

use super::options::JobOptions;
use super::target::{FlowRoute, TargetApp};
use super::{SubmitError, Submitter};
use crate::routing_config::RoutingConfig;

/// Publish attempts before the submitter gets an error.
const PUBLISH_ATTEMPTS: u32 = 2;

/// When a recorded flow is evaluated without an event, in case its router crashed before the
/// publish.
/// it said so.
const MAX_FLOW_START_DELAY: Duration = Duration::from_secs(10);

/// A valid job before its record.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The job.
    pub job: JobSpec,
    /// The plan of a flow.
    pub plan: Option<FlowPlan>,
}

impl Prepared {
    /// Prepares a job for the target app.
    pub(super) fn job(
        reached: TargetApp,
        job: JobSpec,
        options: JobOptions,
    ) -> Result<Self, SubmitError> {
        let job = JobSpec {
            app: reached.id,
            route: reached.hops,
            ..job
        };
        Ok(Self {
            job: options.of(job, &reached.app.config, reached.app.hint_path())?,
            plan: None,
        })
    }

    /// Prepares a flow along `route`, as declared in `declared`. `headers`: those that the
    /// expressions of its steps read.
    pub(super) fn flow(
        flow: FlowRoute,
        (job, options): (JobSpec, JobOptions),
        (declared, headers): (&RoutingConfig, BTreeMap<String, String>),
    ) -> Result<Self, SubmitError> {
        let plan = FlowPlan {
            flow: Flow::new(flow.kind, flow.of),
            excerpt: declared.excerpt(&flow.route),
            headers,
        };
        let job = JobSpec {
            app: flow.route,
            route: flow.hops,
            ..job
        };
        Ok(Self {
            job: options.of_flow(job)?,
            plan: Some(plan),
        })
    }
}

impl Submitter {
    /// Records a job under the admission rules; a flow is scheduled for evaluation.
    pub(super) async fn record(
        &self,
        job: &JobSpec,
        terms: AdmissionRules<'_>,
    ) -> Result<Created, SubmitError> {
        if terms.plan.is_some() {
            let watched = self
                .store
                .flows()
                .schedule(&job.app, job.id, MAX_FLOW_START_DELAY);
            watched.await?;
        }
        let created = self.store.jobs().admit(job, terms).await?;
        if let Created::New { id, .. } = created {
            self.note_overruled_hint(job, id).await;
        }
        Ok(created)
    }

    /// Logs in a new job that its header's hint has no effect.
    async fn note_overruled_hint(&self, job: &JobSpec, id: JobId) {
        let Some(HintSource::Input {
            field,
            overruled: Some(overruled),
        }) = &job.hint_source
        else {
            return;
        };
        let named = job.hint.as_ref().map_or("", |hint| hint.as_str());
        let line = format!("the runner hint '{overruled}' has no effect: {field} is '{named}'");
        let noted = self.store.log().append(&job.app, id, ("WARN", &line)).await;
        if let Err(error) = noted {
            tracing::debug!(job.id = %id, %error, "could not write to a job's log");
        }
    }

    /// Publishes a recorded job to its app's lane, or a flow's event. `failures`: those of failed
    /// attempts.
    pub(super) async fn publish(
        &self,
        job: &JobSpec,
        is_flow: bool,
        failures: FailureHistory,
    ) -> Result<(), SubmitError> {
        let (exchange, key, body) = match is_flow {
            false => (
                self.topology.dispatch_exchange(),
                self.topology.lane_key(&job.app, job.priority),
                JobMessage::new(job.clone()).with(failures).encode()?,
            ),
            true => (
                self.topology.events_exchange(),
                self.topology.flow_accepted_key(job),
                JobEvent::new(job, JobState::Queued).encode()?,
            ),
        };
        let message = Message {
            message_id: Some(job.id.to_string()),
            ..Message::new(body)
        };
        let mut attempt = 1;
        loop {
            let published = async {
                if !is_flow {
                    self.declare(&job.app).await?;
                }
                self.publisher.publish(&exchange, &key, &message).await
            };
            match published.await {
                Ok(()) => return Ok(()),
                // The first publish after a while may be the one that detects a broken connection.
                Err(PublishError::Lapin(_)) if attempt < PUBLISH_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Declares an app's queues before its first job, since a message to a missing queue would be
    /// lost.
    async fn declare(&self, app: &AppId) -> Result<(), PublishError> {
        let mut declared = self.declared.lock().await;
        if !declared.contains(app) {
            let channel = self.publisher.channel().await?;
            self.topology.declare_app(&channel, app).await?;
            declared.insert(app.clone());
        }
        Ok(())
    }
}
