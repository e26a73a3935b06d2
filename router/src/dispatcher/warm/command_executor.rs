//! Executes the policy's commands: claims runners and records holds in Redis, and collects the
//! placed jobs.

use warmq_policy::warm::{Event, HoldCommand, Job, SendCommand};
use warmq_store::{Claim, Store};
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::job::Decision;

use super::super::lanes::JobDelivery;
use super::super::rerouting::Rerouter;
use super::super::sending::{CLAIM_MS, Destination, PlacedJob};
use super::clock::{Clock, ms};
use super::decision_log;
use super::held_jobs::{HeldDelivery, HeldJobs};
use crate::metrics::AppMetrics;
use crate::session_error::SessionError;

pub(super) struct CommandExecutor<'a> {
    pub(super) app: &'a AppId,
    pub(super) store: &'a Store,
    pub(super) metrics: &'a AppMetrics,
    pub(super) rerouter: Rerouter<'a>,
    pub(super) clock: Clock,
    pub(super) held_jobs: HeldJobs,
    pub(super) placed: Vec<PlacedJob>,
}

impl CommandExecutor<'_> {
    /// Claims the runner for the job. Returns the policy's next event if the claim fails.
    /// `candidates`: the idle runners that had the model loaded.
    pub(super) async fn send(
        &mut self,
        send: &SendCommand,
        runner: Option<RunnerId>,
        candidates: Vec<RunnerId>,
    ) -> Result<Option<Event>, SessionError> {
        let (Some(name), Some(mut waiting)) = (runner, self.held_jobs.remove(send.job)) else {
            tracing::error!(
                job = ?send.job, runner = ?send.runner,
                "the policy sent a job that is not held"
            );
            return Ok(Some(Event::ClaimVoid {
                runner: send.runner,
            }));
        };
        let (id, hint) = (waiting.held.job.id, waiting.held.job.hint.as_ref());
        let decision = decision_log::sent(send, &name, hint, candidates);
        let decision = self.after_hold(&waiting, decision);
        loop {
            let placement = self.store.placement();
            let claim = placement.claim(self.app, id, &name, CLAIM_MS, &decision);
            match claim.await? {
                Claim::Won(epoch) => {
                    tracing::debug!(job.id = %id, runner = %name, "claimed a runner");
                    self.metrics.dispatched(hint, &decision);
                    self.place(waiting.held, Destination::Runner(name, epoch));
                    return Ok(None);
                }
                Claim::Refused => {
                    self.metrics.refused(hint);
                    waiting.refused_claims += 1;
                    self.held_jobs.put_back(send.job, waiting);
                    return Ok(Some(Event::Refused {
                        runner: send.runner,
                    }));
                }
                Claim::Unavailable(reason) => {
                    if let Some(to) = self.rerouter.reroute(&waiting.held, reason).await? {
                        self.place(waiting.held, to);
                        return Ok(Some(Event::ClaimVoid {
                            runner: send.runner,
                        }));
                    }
                }
            }
        }
    }

    /// Records a hold. Returns the policy's next event if the job must not be held.
    pub(super) async fn hold(
        &mut self,
        command: &HoldCommand,
    ) -> Result<Option<Event>, SessionError> {
        let job = command.job;
        let Some(waiting) = self.held_jobs.get_mut(job) else {
            return Ok(None);
        };
        let spec = &waiting.held.job;
        let mut hold = decision_log::held(command, spec.hint.as_ref(), self.clock.now_s());
        if let Some(earlier) = &waiting.hold {
            let held_ms = hold.since_ms.saturating_sub(earlier.since_ms);
            hold.predicted_wait_ms = hold.predicted_wait_ms.map(|wait_ms| held_ms + wait_ms);
            hold.since_ms = earlier.since_ms;
        }
        let placement = self.store.placement();
        while let Some(reason) = placement.hold(self.app, spec.id, &hold).await? {
            if let Some(to) = self.rerouter.reroute(&waiting.held, reason).await? {
                self.withdraw(job, to);
                return Ok(Some(Event::Cancelled { job }));
            }
        }
        waiting.hold = Some(hold);
        Ok(None)
    }

    /// Sends a held job elsewhere.
    pub(super) fn withdraw(&mut self, job: Job, to: Destination) {
        if let Some(waiting) = self.held_jobs.remove(job) {
            self.place(waiting.held, to);
        }
    }

    fn place(&mut self, held: JobDelivery, to: Destination) {
        self.placed.push(PlacedJob { held, to });
    }

    /// Adds refused claims, and the predicted and the actual wait of an earlier hold, to a
    /// decision.
    fn after_hold(&self, waiting: &HeldDelivery, decision: Decision) -> Decision {
        let decision = Decision {
            refused_claims: waiting.refused_claims,
            ..decision
        };
        match &waiting.hold {
            Some(hold) => Decision {
                predicted_wait_ms: hold.predicted_wait_ms,
                // At least 1, since 0 means that it was not held.
                held_ms: ms(self.clock.now_s()).saturating_sub(hold.since_ms).max(1),
                ..decision
            },
            None => decision,
        }
    }
}
