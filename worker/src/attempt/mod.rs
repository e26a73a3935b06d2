//! What a runner does with a delivery: start the job, run it, store its end, and only then acknowledge.
//!
//! | module | what it does |
//! | --- | --- |
//! | here | starts the job, or finds out why it is not to be started |
//! | `run` | runs it until it ends |
//! | `end` | how it ended, and how that is stored |
//! | `setback` | an attempt that failed though its job may be sound |
//! | `hands` | puts it into safe hands before its message is acknowledged |
//!
//! Every way through ends in one of two: the job is in safe hands (its end is stored and announced, a confirmed copy is
//! elsewhere, or somebody else runs it) and the message is acknowledged; or the message goes back.

mod end;
mod hands;
mod run;
mod setback;

use std::time::Duration;

use warmq_process::clock::unix_ms;
use warmq_process::retry::{until_known, until_success};
use warmq_store::{Loss, Start, StartSource, Unavailable};
use warmq_types::job::JobSpec;
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::retry_tier::RetryTier;

use crate::consumer::{Source, Taken};
use crate::incarnation::Incarnation;
use crate::runner::{End, Next, Runner};
use crate::shared::Shared;

/// Timeout for the question whether any runner knows a model.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest delay of a job from the shared queue that comes to a runner without its model.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The delay of such a job, which waits for the runners that list its model: half of the time for which it has waited, so
/// that it comes to the others ever more rarely.
fn before_offering_again(waited: Duration) -> RetryTier {
    RetryTier::at_most((waited / 2).min(MAX_DELAY))
}

impl Runner {
    /// Deals with one delivery.
    pub(crate) async fn attend(&mut self, incarnation: &mut Incarnation, taken: Taken) -> Next {
        let job = match self.read(&taken) {
            Ok(job) => job,
            Err(reason) => {
                self.shared.bury(taken, &reason).await;
                return Next::Idle;
            }
        };
        let message = job;
        if taken.source == Source::Shared && self.is_for_another(&message.job).await {
            tracing::info!(
                runner = %self.id, job.id = %message.job.id,
                "a job from the shared queue needs a model that another runner can load: sent back"
            );
            let waited_ms = unix_ms().saturating_sub(message.job.created_ms);
            let tier = before_offering_again(Duration::from_millis(waited_ms));
            self.shared.park_then_ack(&message, tier, taken).await;
            return Next::Idle;
        }
        // Before the job starts: a cancellation right after that is heard as well.
        let job = &message.job;
        let watch = self.shared.cancellations.watch(job.id);
        loop {
            let Shared {
                store,
                config,
                pace,
                stop,
                ..
            } = &self.shared;
            let ground = match taken.source {
                Source::Own => StartSource::Claim,
                Source::Shared => StartSource::SharedQueue,
            };
            // Its answer is waited for: a job that was started and is not run would wait for its lease to lapse.
            let start = until_known("starting a job", stop, || {
                let lease_ms = pace.lease_ms();
                let epoch = incarnation.epoch;
                store.start(&config.app, job.id, &self.id, epoch, lease_ms, ground)
            });
            let start = match self.patience.with(start).await {
                Some(Some(start)) => start,
                Some(None) => {
                    taken.give_back().await;
                    return Next::Idle;
                }
                None => {
                    tracing::warn!(job.id = %job.id, "Redis is away: a job begins without lease");
                    return self.run_job(incarnation, taken, message, None, watch).await;
                }
            };
            let reason = match start {
                Start::Started(lease) => {
                    return self
                        .run_job(incarnation, taken, message, Some(lease), watch)
                        .await;
                }
                Start::Claimed => {
                    taken.give_back().await;
                    return Next::Expect;
                }
                Start::Stale => {
                    taken.give_back().await;
                    return Next::End(End::Unregistered);
                }
                Start::Unavailable(reason) => reason,
            };
            match reason {
                Unavailable::Missing => {
                    tracing::warn!(job.id = %job.id, "Redis has no record of a job; recording it again");
                    let created =
                        until_success("recording a job again", stop, || store.create(job));
                    if created.await.is_none() {
                        taken.give_back().await;
                        return Next::Idle;
                    }
                }
                Unavailable::Terminal(state) => {
                    // Whoever ended it may have died before saying so.
                    self.shared.announce_then_ack(job, state, Some(taken)).await;
                    return Next::Idle;
                }
                Unavailable::Gone => {
                    tracing::info!(job.id = %job.id, "dropped a copy of a job that ended and is not kept any longer");
                    taken.ack().await;
                    return Next::Idle;
                }
                Unavailable::Damaged => {
                    let reason = "its record in Redis is damaged";
                    self.shared.bury(taken, reason).await;
                    return Next::Idle;
                }
                Unavailable::Leased { remaining_ms } | Unavailable::Parked { remaining_ms } => {
                    let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                    self.shared.park_then_ack(&message, tier, taken).await;
                    return Next::Idle;
                }
                Unavailable::Lost => {
                    let lost = until_success("noting a lost runner", stop, || {
                        store.mark_lost(&config.app, job.id)
                    });
                    if let Some(Loss {
                        runner,
                        pause: Some(pause),
                        ..
                    }) = lost.await.flatten()
                    {
                        let tier = RetryTier::at_least(pause);
                        let shared = &self.shared;
                        let message = message.avoiding(runner);
                        shared.park_then_ack(&message, tier, taken).await;
                        return Next::Idle;
                    }
                }
                // To quarantine a job is the dispatcher's business.
                Unavailable::Spent => {
                    let exchange = self.shared.topology.dispatch_exchange();
                    let shared = &self.shared;
                    shared.copy_then_ack(&message, &exchange, taken).await;
                    return Next::Idle;
                }
            }
        }
    }

    /// Returns whether this runner cannot load the job's model and another can, or could lately. No runner chose the
    /// job for this one. While Redis is away, another can.
    async fn is_for_another(&self, job: &JobSpec) -> bool {
        let models = &self.engine.description.models;
        let Some(hint) = &job.hint else { return false };
        if models.is_empty() || models.iter().any(|model| model == hint.as_str()) {
            return false;
        }
        let known = self.shared.store.is_model_known(&job.app, hint);
        let known = tokio::time::timeout(KNOWN_TIMEOUT, known).await;
        !matches!(known, Ok(Ok(false)))
    }

    /// The job in a message, or why there is none.
    fn read(&self, taken: &Taken) -> Result<JobMessage, String> {
        let message = JobMessage::decode(taken.body()).map_err(|error| error.to_string())?;
        let app = &self.shared.config.app;
        if message.job.app == *app {
            Ok(message)
        } else {
            Err(format!("a job of {} in a queue of {app}", message.job.app))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_waits_for_its_models_runners_comes_to_others_ever_more_rarely() {
        let mut waited = Duration::ZERO;
        let mut offers = 0;
        while waited < Duration::from_secs(600) {
            let delay = before_offering_again(waited).delay();
            assert!(delay <= (waited / 2).max(Duration::from_secs(1)));
            waited += delay;
            offers += 1;
        }
        assert_eq!(offers, 10 + 10 + 18);
    }
}
