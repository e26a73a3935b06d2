//! Writes jobs: records them in Redis, and publishes them to RabbitMQ.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use warmq_broker::{Message, PublishError, Publisher, Topology};
use warmq_store::{AdmissionRules, Created, Store};
use warmq_types::hint::HintSource;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{FailureHistory, JobEvent, JobMessage, Versioned};
use warmq_types::state::JobState;

use super::{InputStore, SubmitError};

/// Publish attempts before the submitter gets an error.
const MAX_PUBLISH_ATTEMPTS: u32 = 2;

/// When a recorded flow is evaluated without an event, in case its router crashes before the
/// publish.
const MAX_FLOW_START_DELAY: Duration = Duration::from_secs(10);

/// A recorded job to be published.
pub(crate) struct Publication<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) is_flow: bool,
    pub(crate) failures: FailureHistory,
}

/// A cheap handle for writing jobs.
#[derive(Clone)]
pub(crate) struct JobWriter {
    store: Store,
    publisher: Publisher,
    topology: Topology,
    inputs: InputStore,
    /// Apps whose queues are declared.
    declared: Arc<Mutex<HashSet<AppId>>>,
}

impl JobWriter {
    pub(super) fn new(
        store: Store,
        publisher: Publisher,
        topology: Topology,
        inputs: InputStore,
    ) -> Self {
        Self {
            store,
            publisher,
            topology,
            inputs,
            declared: Arc::default(),
        }
    }

    /// Records a job under the admission rules; a flow is scheduled for evaluation.
    pub(crate) async fn create(
        &self,
        job: &JobSpec,
        rules: AdmissionRules<'_>,
    ) -> Result<Created, SubmitError> {
        if rules.plan.is_some() {
            let flows = self.store.flows();
            (flows.schedule(&job.app, job.id, MAX_FLOW_START_DELAY)).await?;
        }
        let created = self.store.jobs().admit(job, rules).await?;
        if let Created::New { id, .. } = created {
            tracing::debug!(job.id = %id, "recorded a job");
            self.log_overruled_hint(job, id).await;
        }
        Ok(created)
    }

    /// Logs in a new job that its header's hint has no effect.
    async fn log_overruled_hint(&self, job: &JobSpec, id: JobId) {
        let Some(HintSource::Input {
            field,
            overruled: Some(overruled),
        }) = &job.hint_source
        else {
            return;
        };
        let named = job.hint.as_ref().map_or("", |hint| hint.as_str());
        let line = format!("ignored the runner hint '{overruled}': {field} is '{named}'");
        let logged = self.store.log().append(&job.app, id, ("WARN", &line)).await;
        if let Err(error) = logged {
            tracing::debug!(job.id = %id, %error, "could not write to a job's log");
        }
    }

    /// Publishes a recorded job to its app's lane, or a flow's event.
    pub(crate) async fn publish(&self, publication: Publication<'_>) -> Result<(), SubmitError> {
        let Publication {
            job,
            is_flow,
            failures,
        } = publication;
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
                    self.declare_queues(&job.app).await?;
                }
                self.publisher.publish(&exchange, &key, &message).await
            };
            match published.await {
                Ok(()) => return Ok(()),
                // The first publish after a while may be the one that detects a broken connection.
                Err(PublishError::Lapin(_)) if attempt < MAX_PUBLISH_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Declares an app's queues before its first job, since a message to a missing queue would be
    /// lost.
    async fn declare_queues(&self, app: &AppId) -> Result<(), PublishError> {
        let mut declared = self.declared.lock().await;
        if !declared.contains(app) {
            let channel = self.publisher.channel().await?;
            self.topology.declare_app(&channel, app).await?;
            declared.insert(app.clone());
        }
        Ok(())
    }

    /// Deletes the record and the stored input of a job without a message. Returns false if the
    /// job is kept, since another submission published it.
    pub(crate) async fn withdraw(&self, job: &JobSpec) -> Result<bool, warmq_store::Error> {
        let withdrawn = self.store.jobs().withdraw(&job.app, job.id).await?;
        if withdrawn {
            self.inputs.delete(job.stored_input.clone()).await;
        }
        Ok(withdrawn)
    }
}
