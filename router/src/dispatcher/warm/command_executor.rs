//! Executes the policy's commands in batches: claims runners and records holds in Redis, and
//! collects the placed jobs. The calls of a batch are concurrent, so that it costs one round trip.

use futures::future::try_join_all;
use warmq_policy::warm::{Event, HoldCommand, Job, Runner, SendCommand};
use warmq_store::{Claim, Store};
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::job::{Decision, Hold};

use super::super::lanes::JobDelivery;
use super::super::rerouting::Rerouter;
use super::super::sending::{CLAIM_MS, Destination, PlacedJob};
use super::clock::{Clock, ms};
use super::decision_log;
use super::waiting_jobs::{WaitingJob, WaitingJobs};
use crate::metrics::AppMetrics;
use crate::session_error::SessionError;

pub(super) struct CommandExecutor<'a> {
    pub(super) app: &'a AppId,
    pub(super) store: &'a Store,
    pub(super) metrics: &'a AppMetrics,
    pub(super) rerouter: Rerouter<'a>,
    pub(super) clock: Clock,
    pub(super) waiting_jobs: WaitingJobs,
    pub(super) placed: Vec<PlacedJob>,
    /// Commands that are not executed yet: at most one per job and one per runner.
    pub(super) batch: Vec<Pending>,
}

/// A command that is not executed yet.
pub(super) enum Pending {
    Send {
        command: SendCommand,
        /// Name of the runner.
        runner: RunnerId,
        /// The idle runners that had the model loaded.
        candidates: Vec<RunnerId>,
    },
    Hold(HoldCommand),
}

impl Pending {
    pub(super) fn job(&self) -> Job {
        match self {
            Self::Send { command, .. } => command.job,
            Self::Hold(command) => command.job,
        }
    }

    fn runner(&self) -> Option<Runner> {
        match self {
            Self::Send { command, .. } => Some(command.runner),
            Self::Hold(_) => None,
        }
    }
}

/// A claim in progress.
struct ClaimCall {
    command: SendCommand,
    runner: RunnerId,
    waiting: WaitingJob,
    decision: Decision,
}

/// A hold that is being recorded.
struct HoldCall {
    job: Job,
    hold: Hold,
}

/// Outcome of a claim.
enum Claimed {
    Won(Destination),
    Refused,
    /// The job needs no runner.
    Rerouted(Destination),
}

impl CommandExecutor<'_> {
    /// Returns whether a command of the batch concerns this job.
    pub(super) fn concerns_job(&self, job: Job) -> bool {
        self.batch.iter().any(|pending| pending.job() == job)
    }

    /// Returns whether a command of the batch concerns this runner.
    pub(super) fn concerns_runner(&self, runner: Runner) -> bool {
        let concerned = Some(runner);
        self.batch
            .iter()
            .any(|pending| pending.runner() == concerned)
    }

    /// Executes the batch. Returns the policy's next events: a claim was refused, or a job must be
    /// neither sent nor held.
    pub(super) async fn execute(&mut self) -> Result<Vec<Event>, SessionError> {
        let (mut claims, mut holds, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for pending in std::mem::take(&mut self.batch) {
            match pending {
                Pending::Send {
                    command,
                    runner,
                    candidates,
                } => match self.waiting_jobs.remove(command.job) {
                    Some(waiting) => {
                        claims.push(self.claim_call(command, runner, candidates, waiting))
                    }
                    // Its hold was refused: it has left.
                    None => events.push(Event::ClaimVoid {
                        runner: command.runner,
                    }),
                },
                Pending::Hold(command) => holds.extend(self.hold_call(&command)),
            }
        }
        let (claimed, held) = futures::try_join!(
            try_join_all(claims.iter().map(|call| self.claim(call))),
            try_join_all(holds.iter().map(|call| self.hold(call))),
        )?;
        for (call, claimed) in claims.into_iter().zip(claimed) {
            events.extend(self.claimed(call, claimed));
        }
        for (HoldCall { job, hold }, rerouted) in holds.into_iter().zip(held) {
            match rerouted {
                Some(to) => {
                    self.withdraw(job, to);
                    events.push(Event::Cancelled { job });
                }
                None => {
                    if let Some(waiting) = self.waiting_jobs.get_mut(job) {
                        waiting.hold = Some(hold);
                    }
                }
            }
        }
        Ok(events)
    }

    fn claim_call(
        &self,
        command: SendCommand,
        runner: RunnerId,
        candidates: Vec<RunnerId>,
        waiting: WaitingJob,
    ) -> ClaimCall {
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

    /// Returns the hold to record; its wait counts from the job's first hold.
    fn hold_call(&self, command: &HoldCommand) -> Option<HoldCall> {
        let job = command.job;
        let waiting = self.waiting_jobs.get(job)?;
        let hint = waiting.delivered.job.hint.as_ref();
        let mut hold = decision_log::held(command, hint, self.clock.now_s());
        if let Some(earlier) = &waiting.hold {
            let held_ms = hold.since_ms.saturating_sub(earlier.since_ms);
            hold.predicted_wait_ms = hold.predicted_wait_ms.map(|wait_ms| held_ms + wait_ms);
            hold.since_ms = earlier.since_ms;
        }
        Some(HoldCall { job, hold })
    }

    /// Records a hold. Returns another destination if the job must not be held.
    async fn hold(&self, call: &HoldCall) -> Result<Option<Destination>, SessionError> {
        let Some(waiting) = self.waiting_jobs.get(call.job) else {
            return Ok(None);
        };
        let (placement, id) = (self.store.placement(), waiting.delivered.job.id);
        while let Some(reason) = placement.hold(self.app, id, &call.hold).await? {
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
