//! Finds another destination for a job that Redis refuses to send to a runner or to hold.

use std::time::Duration;

use warmq_broker::DeadLetter;
use warmq_store::{Store, Unavailable};
use warmq_types::ids::AppId;
use warmq_types::retry_tier::RetryTier;

use super::lanes::JobDelivery;
use super::quarantine::Quarantine;
use super::sending::{Destination, JobSender};
use crate::finalizer::Finalizer;
use crate::session_error::SessionError;

/// Dead-letter reason of a job whose record no script can process.
const DAMAGED: &str = "its record in Redis is damaged";

#[derive(Clone, Copy)]
pub(super) struct Rerouter<'a> {
    pub(super) app: &'a AppId,
    pub(super) store: &'a Store,
    pub(super) finalizer: &'a Finalizer,
    pub(super) quarantine: Quarantine<'a>,
    pub(super) sender: JobSender<'a>,
}

impl Rerouter<'_> {
    /// Returns the destination of a job that Redis refuses to send to a runner now; `None` if it
    /// may be tried again at once. A job with an unusable record becomes a dead letter, so that the
    /// jobs behind it proceed.
    pub(super) async fn reroute(
        self,
        delivered: &JobDelivery,
        unavailable: Unavailable,
    ) -> Result<Option<Destination>, SessionError> {
        match self.next_destination(delivered, unavailable).await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %delivered.job.id, %error, "a job's record cannot be used");
                self.dead_letter(delivered).await
            }
            destination => destination,
        }
    }

    async fn dead_letter(
        self,
        delivered: &JobDelivery,
    ) -> Result<Option<Destination>, SessionError> {
        let letter = DeadLetter {
            id: delivered.job.id,
            ..DeadLetter::new(delivered.delivery.data.clone(), DAMAGED)
        };
        self.sender.dead_letter(letter).await?;
        Ok(Some(Destination::Discard))
    }

    async fn next_destination(
        self,
        delivered: &JobDelivery,
        unavailable: Unavailable,
    ) -> Result<Option<Destination>, SessionError> {
        let Self { app, store, .. } = self;
        let (job, attempts) = (&delivered.job, store.attempts());
        match unavailable {
            Unavailable::Damaged => self.dead_letter(delivered).await,
            Unavailable::Gone => {
                tracing::info!(job.id = %job.id, "dropped a copy of a job that ended and expired");
                Ok(Some(Destination::Discard))
            }
            Unavailable::Parked { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                let failures = attempts.failure_history(app, job.id).await?;
                Ok(Some(match failures.is_empty() {
                    false => Destination::NextAttempt(tier, failures),
                    true => Destination::Parked(tier),
                }))
            }
            Unavailable::Terminal(state) => {
                // The component that ended it may have crashed before it published the event.
                self.finalizer.announce(job, state).await?;
                Ok(Some(Destination::Discard))
            }
            Unavailable::Leased { remaining_ms } => {
                let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                Ok(Some(Destination::Parked(tier)))
            }
            Unavailable::Lost => {
                let Some(loss) = attempts.mark_lost(app, job.id).await? else {
                    return Ok(None);
                };
                tracing::warn!(
                    job.id = %job.id, attempt = loss.attempt, runner = %loss.runner,
                    "a job lost its runner"
                );
                let Some(pause) = loss.pause else {
                    return Ok(None);
                };
                let failures = attempts.failure_history(app, job.id).await?;
                let tier = RetryTier::at_least(pause);
                Ok(Some(Destination::NextAttempt(tier, failures)))
            }
            Unavailable::Spent => {
                self.quarantine.end(&delivered.decode_job()).await?;
                Ok(Some(Destination::Discard))
            }
            // Redis restarted without persistence; the message contains the whole job.
            Unavailable::Missing => {
                tracing::warn!(job.id = %job.id, "recorded a job again that redis had lost");
                store.jobs().create(&delivered.decode_job()).await?;
                Ok(None)
            }
        }
    }
}
