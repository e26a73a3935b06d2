//! Ends jobs that used all their attempts with a dead letter: such a job may crash its runners.

use warmq_broker::DeadLetter;
use warmq_store::Store;
use warmq_types::ids::AppId;
use warmq_types::job::{JobError, JobSpec};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::state::JobState;

use super::sending::JobSender;
use crate::finalizer::Finalizer;
use crate::session_error::SessionError;

#[derive(Clone, Copy)]
pub(super) struct Quarantine<'a> {
    pub(super) app: &'a AppId,
    pub(super) store: &'a Store,
    pub(super) finalizer: &'a Finalizer,
    pub(super) sender: JobSender<'a>,
}

impl Quarantine<'_> {
    /// Ends a job that used all its attempts: dead letter, record, event. The letter comes first: a
    /// crash after it leads to redelivery and at worst to a duplicate letter. The event of a job
    /// that had ended is published again.
    pub(super) async fn end(self, job: &JobSpec) -> Result<(), SessionError> {
        let Self { app, store, .. } = self;
        let (attempt, lost_runners, spec) = match store.jobs().job_of(app, job.id).await {
            // The message has enough for the letter.
            Err(error) if error.is_damage() => {
                tracing::error!(
                    job.id = %job.id, %error,
                    "a quarantined job's record cannot be read"
                );
                (job.max_attempts, Vec::new(), job.clone())
            }
            record => match record? {
                Some(record) => (record.attempt, record.lost_runners, record.spec),
                None => return Ok(()),
            },
        };
        let error = JobError::quarantined(attempt, &lost_runners);
        tracing::error!(job.id = %job.id, reason = error.message, "a job is quarantined");
        let failures = store.attempts().failure_history(app, job.id).await?;
        // Encoding cannot fail: string keys, no I/O.
        let message = JobMessage::new(spec).with(failures).encode();
        let letter = DeadLetter {
            id: job.id,
            ..DeadLetter::new(message.unwrap_or_default(), error.message.as_str())
        };
        self.sender.dead_letter(letter).await?;
        if store.attempts().quarantine(app, job.id, &error).await? {
            self.finalizer.announce(job, JobState::Failed).await?;
        }
        Ok(())
    }
}
