//! Jobs that end without a result, and everybody hears of it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use warmq_broker::{Message, PublishError, Publisher, Topology};
use warmq_store::{Cancel, Store};
use warmq_types::flow::Flow;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

/// Ends that are announced side by side.
const MAX_CONCURRENT: usize = 32;

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The job is cancelled, and that was announced.
    Yes,
    /// It ended otherwise before.
    Ended(JobState),
    /// There is no record of it.
    Missing,
}

/// Why a job's end is not done, or not known to be told. The same call may be made again.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ is away, or stalled by an alarm.
    #[error(transparent)]
    Announce(#[from] PublishError),
}

/// A cheap handle on the end of jobs.
#[derive(Clone)]
pub struct Finalizer {
    store: Store,
    publisher: Publisher,
    topology: Topology,
}

impl Finalizer {
    /// For the jobs of the given servers.
    pub fn new(store: Store, publisher: Publisher, topology: Topology) -> Self {
        Self {
            store,
            publisher,
            topology,
        }
    }

    /// Cancels a job, wherever it is, and announces it; of a flow the step that is under way, too.
    /// Of a job that was cancelled before it is announced again: whoever cancelled it may have died
    /// before saying so.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn cancel(&self, job: &JobSpec) -> Result<Cancelled, EndError> {
        match self.store.cancel(&job.app, job.id).await? {
            Cancel::Missing => return Ok(Cancelled::Missing),
            Cancel::Ended(state) if state != JobState::Cancelled => {
                return Ok(Cancelled::Ended(state));
            }
            Cancel::Ended(_) => {}
            Cancel::Cancelled => {
                tracing::info!(job.id = %job.id, app = %job.app, "a job was cancelled");
            }
        }
        // First the flow, then its step: it begins no other.
        if let Some(flow) = self.store.flow(&job.app, job.id).await? {
            self.cancel_under_way(&flow.flow).await?;
        }
        self.announce(job, JobState::Cancelled).await?;
        Ok(Cancelled::Yes)
    }

    /// Cancels the step that a flow has under way, if there is one and it was submitted.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn cancel_under_way(&self, flow: &Flow) -> Result<(), EndError> {
        let Some(step) = flow.under_way() else {
            return Ok(());
        };
        match self.store.job_of(&step.app, step.job).await {
            // Its end is announced by its app's leader, if at all.
            Err(error) if error.is_damage() => {
                self.store.cancel(&step.app, step.job).await?;
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

    /// Ends the app's jobs that have not started in time, and announces it.
    ///
    /// # Errors
    /// See [`EndError`]; what was not announced is so later.
    pub async fn expire(&self, app: &AppId) -> Result<(), EndError> {
        let expired = stream::iter(self.store.expire(app).await?).map(Ok);
        let announced =
            expired.try_for_each_concurrent(MAX_CONCURRENT, |job: JobSpec| async move {
                tracing::info!(job.id = %job.id, %app, "a job expired: it had not started in time");
                Ok(self.announce(&job, JobState::Expired).await?)
            });
        announced.await
    }

    /// Announces ends of the app that nobody may have been told of for `ago`: whoever stored them
    /// died before.
    ///
    /// # Errors
    /// See [`EndError`].
    pub async fn drain_outbox(&self, app: &AppId, ago: Duration) -> Result<(), EndError> {
        let outbox = stream::iter(self.store.outbox(app, ago).await?).map(Ok);
        outbox
            .try_for_each_concurrent(MAX_CONCURRENT, |job| self.announce_again(app, job))
            .await
    }

    async fn announce_again(&self, app: &AppId, job: JobId) -> Result<(), EndError> {
        if let Some(record) = self.store.end_to_announce(app, job).await? {
            tracing::info!(job.id = %job, state = %record.state, "publishes an event that may not have been published");
            self.announce(&record.spec, record.state).await?;
        }
        Ok(())
    }

    /// Tells everybody that a job ended; confirmed. Listeners take it twice.
    ///
    /// # Errors
    /// RabbitMQ is away, or stalled by an alarm.
    pub async fn announce(&self, job: &JobSpec, state: JobState) -> Result<(), PublishError> {
        let message = Message {
            message_id: Some(job.id.to_string()),
            // Encoding has no way to fail: string keys, no I/O.
            ..Message::new(JobEvent::new(job, state).encode().unwrap_or_default())
        };
        let key = self.topology.event_key(job, state);
        let exchange = self.topology.events_exchange();
        self.publisher.announce(&exchange, &key, &message).await?;
        // Else it is announced once more.
        if let Err(error) = self.store.told(job).await {
            tracing::debug!(job.id = %job.id, %error, "could not note that an end was announced");
        }
        Ok(())
    }
}
