//! Ends jobs that used all their attempts with a dead letter: such a job may crash its runners.

use warmq_broker::DeadLetter;
use warmq_types::job::{JobError, JobSpec};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::state::JobState;

use super::Dispatcher;
use crate::session_error::SessionError;

impl Dispatcher {
    /// Ends a job that used all its attempts: dead letter, record, event. The letter comes first: a
    /// crash after it leads to redelivery and at worst to a duplicate letter. The event of a job
    /// that had ended is published again.
    pub(super) async fn quarantine(&self, job: &JobSpec) -> Result<(), SessionError> {
        let (attempt, lost_runners, spec) = match self
            .shared
            .store
            .jobs()
            .job_of(&self.app, job.id)
            .await
        {
            // The message has enough for the letter.
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %job.id, %error, "a quarantined job's record cannot be read");
                (job.max_attempts, Vec::new(), job.clone())
            }
            record => match record? {
                Some(record) => (record.attempt, record.lost_runners, record.spec),
                None => return Ok(()),
            },
        };
        let error = JobError::quarantined(attempt, &lost_runners);
        tracing::error!(job.id = %job.id, reason = error.message, "a job is quarantined");
        let failures = self
            .shared
            .store
            .attempts()
            .failure_history(&self.app, job.id)
            .await?;
        // Encoding cannot fail: string keys, no I/O.
        let message = JobMessage::new(spec).with(failures).encode();
        let message = message.unwrap_or_default();
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
            .attempts()
            .quarantine(&self.app, job.id, &error)
            .await?
        {
            self.shared
                .finalizer
                .announce(job, JobState::Failed)
                .await?;
        }
        Ok(())
    }
}
