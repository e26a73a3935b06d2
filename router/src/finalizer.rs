//! Ends jobs without a result (cancelled, expired), and publishes the events of ended jobs.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use warmq_broker::{Message, PublishError, Publisher, Topology};
use warmq_store::{CancelOutcome, Store};
use warmq_types::flow::Flow;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

const MAX_CONCURRENT: usize = 32;

/// Result of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The job is cancelled, and its event is published.
    Yes,
    /// The job had ended otherwise.
    Ended(JobState),
    /// The job has no record.
    Missing,
}

/// Why a job's end is not stored, or its event not published. The call may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// Redis failed.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ failed, or is blocked by an alarm.
    #[error(transparent)]
    Announce(#[from] PublishError),
}

/// A cheap handle for ending jobs.
#[derive(Clone)]
pub struct Finalizer {
    store: Store,
    publisher: Publisher,
    topology: Topology,
}

impl Finalizer {
    /// Returns a handle for the jobs of the given servers.
    pub fn new(store: Store, publisher: Publisher, topology: Topology) -> Self {
        Self {
            store,
            publisher,
            topology,
        }
    }

    /// Cancels a job in any state and publishes its event; of a flow, also the current step.
    /// Publishes the event of a cancelled job again, since the first caller may have crashed before
    /// the publish.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn cancel(&self, job: &JobSpec) -> Result<Cancelled, EndError> {
        match self.store.cancellation().cancel(&job.app, job.id).await? {
            CancelOutcome::Missing => return Ok(Cancelled::Missing),
            CancelOutcome::Ended(state) if state != JobState::Cancelled => {
                return Ok(Cancelled::Ended(state));
            }
            CancelOutcome::Ended(_) => {}
            CancelOutcome::Cancelled => {
                tracing::info!(job.id = %job.id, app = %job.app, "a job was cancelled");
            }
        }
        // First the flow, then its step, so that no other step begins.
        if let Some(flow) = self.store.flows().get(&job.app, job.id).await? {
            self.cancel_under_way(&flow.flow).await?;
        }
        self.announce(job, JobState::Cancelled).await?;
        Ok(Cancelled::Yes)
    }

    /// Cancels the current step of a flow, if it was submitted.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn cancel_under_way(&self, flow: &Flow) -> Result<(), EndError> {
        let Some(step) = flow.under_way() else {
            return Ok(());
        };
        match self.store.jobs().job_of(&step.app, step.job).await {
            // Its app's leader publishes the event, if any component does.
            Err(error) if error.is_damage() => {
                self.store
                    .cancellation()
                    .cancel(&step.app, step.job)
                    .await?;
            }
            Ok(None) => {}
            record => {
                if let Some(record) = record? {
                    Box::pin(self.cancel(&record.spec)).await?;
                }
            }
        }
        Ok(())
    }

    /// Expires the app's jobs that have not started in time, and publishes their events.
    ///
    /// # Errors
    /// See [`EndError`]; unpublished events remain in the outbox.
    pub async fn expire(&self, app: &AppId) -> Result<(), EndError> {
        let expired = stream::iter(self.store.deadlines().expire(app).await?).map(Ok);
        let announced =
            expired.try_for_each_concurrent(MAX_CONCURRENT, |job: JobSpec| async move {
                tracing::info!(job.id = %job.id, %app, "a job expired: it had not started in time");
                Ok(self.announce(&job, JobState::Expired).await?)
            });
        announced.await
    }

    /// Publishes the events that have been in the outbox for `ago`: the component that stored the
    /// end may have crashed.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn drain_outbox(&self, app: &AppId, ago: Duration) -> Result<(), EndError> {
        let outbox = stream::iter(self.store.outbox().entries(app, ago).await?).map(Ok);
        outbox
            .try_for_each_concurrent(MAX_CONCURRENT, |job| self.announce_again(app, job))
            .await
    }

    async fn announce_again(&self, app: &AppId, job: JobId) -> Result<(), EndError> {
        if let Some(record) = self.store.outbox().record(app, job).await? {
            tracing::info!(job.id = %job, state = %record.state, "publishes an event that may not have been published");
            self.announce(&record.spec, record.state).await?;
        }
        Ok(())
    }

    /// Publishes the event of an ended job with confirm. Consumers accept duplicates.
    ///
    /// # Errors
    /// RabbitMQ failed, or is blocked by an alarm.
    pub async fn announce(&self, job: &JobSpec, state: JobState) -> Result<(), PublishError> {
        let message = Message {
            message_id: Some(job.id.to_string()),
            // Encoding cannot fail: string keys, no I/O.
            ..Message::new(JobEvent::new(job, state).encode().unwrap_or_default())
        };
        // A repeated submission may have set an address that `job` lacks.
        if let Some(key) = self.topology.event_key(job, state, true) {
            let exchange = self.topology.events_exchange();
            self.publisher.announce(&exchange, &key, &message).await?;
        }
        self.store.outbox().remove(&job.app, job.id);
        Ok(())
    }
}
