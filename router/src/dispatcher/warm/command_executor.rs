//! Executes the policy's commands: claims runners in Redis, in batches whose calls are concurrent,
//! so that each costs one round trip, and collects the placed jobs. Holds are recorded a moment
//! later, and only those that last: in a busy queue most are over by then.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use warmq_policy::warm::{Event, HoldCommand, Job, Runner, SendCommand};
use warmq_store::{Claim, Store};
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::job::Decision;

use super::super::lanes::JobDelivery;
use super::super::rerouting::Rerouter;
use super::super::sending::{CLAIM_MS, Destination, PlacedJob};
use super::clock::{Clock, ms};
use super::decision_log;
use super::waiting_jobs::{WaitingJob, WaitingJobs};
use crate::metrics::AppMetrics;
use crate::session_error::SessionError;

/// How long holds are collected before they are recorded.
const HOLD_RECORDING_DELAY: Duration = Duration::from_millis(200);

pub(super) struct CommandExecutor<'a> {
    pub(super) app: &'a AppId,
    pub(super) store: &'a Store,
    pub(super) metrics: &'a AppMetrics,
    pub(super) rerouter: Rerouter<'a>,
    pub(super) clock: Clock,
    pub(super) waiting_jobs: WaitingJobs,
    pub(super) placed: Vec<PlacedJob>,
    /// Sends that are not executed yet: at most one per job and one per runner.
    pub(super) batch: Vec<PendingSend>,
    /// When holds are due to be recorded; `None` if all are.
    pub(super) record_holds_at: Option<Instant>,
}

/// A send that is not executed yet.
pub(super) struct PendingSend {
    pub(super) command: SendCommand,
    /// Name of the runner.
    pub(super) runner: RunnerId,
    /// The idle runners that had the model loaded.
    pub(super) candidates: Vec<RunnerId>,
}

/// A claim in progress.
struct ClaimCall {
    command: SendCommand,
    runner: RunnerId,
    waiting: WaitingJob,
    decision: Decision,
}

/// Outcome of a claim.
enum Claimed {
    Won(Destination),
    Refused,
    /// The job needs no runner.
    Rerouted(Destination),
}

impl CommandExecutor<'_> {
    /// Returns whether a send of the batch concerns this job.
    pub(super) fn concerns_job(&self, job: Job) -> bool {
        self.batch.iter().any(|pending| pending.command.job == job)
    }

    /// Returns whether a send of the batch concerns this runner.
    pub(super) fn concerns_runner(&self, runner: Runner) -> bool {
        let mut runners = self.batch.iter().map(|pending| pending.command.runner);
        runners.any(|concerned| concerned == runner)
    }

    /// Executes the batch. Returns the policy's next events: a claim was refused, or a job needs no
    /// runner.
    pub(super) async fn execute(&mut self) -> Result<Vec<Event>, SessionError> {
        let (mut claims, mut events) = (Vec::new(), Vec::new());
        for pending in std::mem::take(&mut self.batch) {
            match self.waiting_jobs.remove(pending.command.job) {
                Some(waiting) => claims.push(self.claim_call(pending, waiting)),
                // It has left meanwhile.
                None => events.push(Event::ClaimVoid {
                    runner: pending.command.runner,
                }),
            }
        }
        let claimed = try_join_all(claims.iter().map(|call| self.claim(call))).await?;
        for (call, claimed) in claims.into_iter().zip(claimed) {
            events.extend(self.claimed(call, claimed));
        }
        Ok(events)
    }

    fn claim_call(&self, pending: PendingSend, waiting: WaitingJob) -> ClaimCall {
        let PendingSend {
            command,
            runner,
            candidates,
        } = pending;
        let hint = waiting.delivered.job.hint.as_ref();
        let decision = decision_log::sent(&command, &runner, hint, candidates);
        let decision = self.after_hold(&waiting, decision);
        ClaimCall {
            command,
            runner,
            waiting,
            decision,
        }
    }

    /// Claims the runner for the job.
    async fn claim(&self, call: &ClaimCall) -> Result<Claimed, SessionError> {
        let ClaimCall {
            runner,
            waiting,
            decision,
            ..
        } = call;
        let id = waiting.delivered.job.id;
        loop {
            let placement = self.store.placement();
            let claim = placement.claim(self.app, id, runner, CLAIM_MS, decision);
            match claim.await? {
                Claim::Won(epoch) => {
                    tracing::debug!(job.id = %id, %runner, "claimed a runner");
                    return Ok(Claimed::Won(Destination::Runner(runner.clone(), epoch)));
                }
                Claim::Refused => return Ok(Claimed::Refused),
                Claim::Unavailable(reason) => {
                    if let Some(to) = self.rerouter.reroute(&waiting.delivered, reason).await? {
                        return Ok(Claimed::Rerouted(to));
                    }
                }
            }
        }
    }

    /// Places the job of a claim, or holds it again. Returns the policy's next event if the claim
    /// failed.
    fn claimed(&mut self, call: ClaimCall, claimed: Claimed) -> Option<Event> {
        let ClaimCall {
            command,
            mut waiting,
            decision,
            ..
        } = call;
        let (job, runner) = (command.job, command.runner);
        match claimed {
            Claimed::Won(to) => {
                let hint = waiting.delivered.job.hint.as_ref();
                self.metrics.dispatched(hint, &decision);
                self.place(waiting.delivered, to);
                None
            }
            Claimed::Refused => {
                self.metrics.refused(waiting.delivered.job.hint.as_ref());
                waiting.refused_claims += 1;
                self.waiting_jobs.put_back(job, waiting);
                Some(Event::Refused { runner })
            }
            Claimed::Rerouted(to) => {
                self.place(waiting.delivered, to);
                Some(Event::ClaimVoid { runner })
            }
        }
    }

    /// Notes a hold; its wait counts from the job's first hold.
    pub(super) fn hold(&mut self, command: &HoldCommand) {
        let now_s = self.clock.now_s();
        let Some(waiting) = self.waiting_jobs.get_mut(command.job) else {
            return;
        };
        let hint = waiting.delivered.job.hint.as_ref();
        let mut hold = decision_log::held(command, hint, now_s);
        if let Some(earlier) = &waiting.hold {
            let held_ms = hold.since_ms.saturating_sub(earlier.since_ms);
            hold.predicted_wait_ms = hold.predicted_wait_ms.map(|wait_ms| held_ms + wait_ms);
            hold.since_ms = earlier.since_ms;
        }
        waiting.hold = Some(hold);
        waiting.hold_is_recorded = false;
        let due = Instant::now() + HOLD_RECORDING_DELAY;
        self.record_holds_at.get_or_insert(due);
    }

    /// Records the holds that last. Returns the policy's next events: a job must not be held.
    pub(super) async fn record_holds(&mut self) -> Result<Vec<Event>, SessionError> {
        self.record_holds_at = None;
        let jobs = self.waiting_jobs.with_unrecorded_hold();
        let rerouted = try_join_all(jobs.iter().map(|job| self.record_hold(*job))).await?;
        let mut events = Vec::new();
        for (job, rerouted) in jobs.into_iter().zip(rerouted) {
            match rerouted {
                Some(to) => {
                    self.withdraw(job, to);
                    events.push(Event::Cancelled { job });
                }
                None => {
                    if let Some(waiting) = self.waiting_jobs.get_mut(job) {
                        waiting.hold_is_recorded = true;
                    }
                }
            }
        }
        Ok(events)
    }

    /// Records a hold. Returns another destination if the job must not be held.
    async fn record_hold(&self, job: Job) -> Result<Option<Destination>, SessionError> {
        let Some(waiting) = self.waiting_jobs.get(job) else {
            return Ok(None);
        };
        let Some(hold) = &waiting.hold else {
            return Ok(None);
        };
        let (placement, id) = (self.store.placement(), waiting.delivered.job.id);
        while let Some(reason) = placement.hold(self.app, id, hold).await? {
            let rerouted = self.rerouter.reroute(&waiting.delivered, reason).await?;
            if rerouted.is_some() {
                return Ok(rerouted);
            }
        }
        Ok(None)
    }

    /// Sends a held job elsewhere.
    pub(super) fn withdraw(&mut self, job: Job, to: Destination) {
        if let Some(waiting) = self.waiting_jobs.remove(job) {
            self.place(waiting.delivered, to);
        }
    }

    fn place(&mut self, delivered: JobDelivery, to: Destination) {
        self.placed.push(PlacedJob { delivered, to });
    }

    /// Adds refused claims, and the predicted and the actual wait of an earlier hold, to a
    /// decision.
    fn after_hold(&self, waiting: &WaitingJob, decision: Decision) -> Decision {
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
