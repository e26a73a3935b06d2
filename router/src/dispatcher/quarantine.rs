//! A job that had all its attempts is put away, with its reason: it may be what takes its runners down.

use warmq_common::amqp::{DeadLetter, Message};
use warmq_common::job::{JobError, JobSpec};
use warmq_common::message::{JobEvent, JobMessage, Versioned};
use warmq_common::state::JobState;

use super::Dispatcher;
use crate::broken::Broken;

impl Dispatcher {
    /// Ends a job that had all its attempts: a dead letter, the end in its record, the event. The letter first: whatever
    /// breaks after it, the job's message comes again, and at worst its letter is written twice. A job found ended is
    /// announced again.
    pub(super) async fn quarantine(&self, job: &JobSpec) -> Result<(), Broken> {
        let Some(record) = self.shared.store.job_of(&self.app, job.id).await? else {
            return Ok(());
        };
        let error = JobError::quarantined(record.attempt, &record.lost_runners);
        tracing::error!(job.id = %job.id, reason = error.message, "a job is quarantined");
        let message = encoded(&JobMessage::new(record.spec));
        let letter = DeadLetter {
            id: job.id,
            ..DeadLetter::new(message, error.message.as_str())
        };
        let queue = self.shared.topology.dead_queue(&self.app);
        let publisher = &self.shared.publisher;
        publisher.publish("", &queue, &letter.message()).await?;
        if self
            .shared
            .store
            .quarantine(&self.app, job.id, &error)
            .await?
        {
            self.announce(job, JobState::Failed).await?;
        }
        Ok(())
    }

    /// Tells everybody that a job ended; listeners take it twice.
    pub(super) async fn announce(&self, job: &JobSpec, state: JobState) -> Result<(), Broken> {
        let topology = &self.shared.topology;
        let event = Message {
            message_id: Some(job.id.to_string()),
            ..Message::new(encoded(&JobEvent::new(job, state)))
        };
        let key = topology.event_key(&job.app, state);
        let exchange = topology.events_exchange();
        Ok(self
            .shared
            .publisher
            .announce(&exchange, &key, &event)
            .await?)
    }
}

/// Encoding has no way to fail: string keys, no I/O.
fn encoded(content: &impl Versioned) -> Vec<u8> {
    content.encode().unwrap_or_default()
}
