//! Policy `fal`: decides each job on arrival, from the runners' current state in Redis. Decisions
//! are sequential.

use tokio_util::sync::CancellationToken;
use warmq_policy::fal;
use warmq_policy::work::HeldWork;
use warmq_store::Claim;
use warmq_types::job::Target;

use super::Dispatcher;
use super::dispatch_loop::{DispatchLoop, LaneSubscriptions, Placer};
use super::lanes::{JobDelivery, LaneLimits};
use super::sending::{CLAIM_MS, Destination, PlacedJob};
use super::session::Session;
use crate::session_error::SessionError;

/// Dispatches until `stop`.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let dispatching = DispatchLoop {
        dispatcher,
        session,
        subscriptions: Some(LaneSubscriptions::open(dispatcher).await?),
    };
    let mut placer = Immediate {
        dispatcher,
        placed: Vec::new(),
    };
    dispatching.run(&mut placer, stop).await
}

struct Immediate<'a> {
    dispatcher: &'a Dispatcher,
    placed: Vec<PlacedJob>,
}

impl Placer for Immediate<'_> {
    const LIMITS: LaneLimits = LaneLimits::WITHOUT_HOLDS;

    async fn arrived(&mut self, delivered: JobDelivery) -> Result<(), SessionError> {
        let to = self.place(&delivered).await?;
        self.placed.push(PlacedJob { delivered, to });
        Ok(())
    }

    fn placed(&mut self) -> &mut Vec<PlacedJob> {
        &mut self.placed
    }

    fn held_work(&self) -> HeldWork {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        HeldWork::empty(shared.apps.config(app).prior_run.as_secs_f64())
    }
}

impl Immediate<'_> {
    /// Decides where a job goes and claims the runner. A refused claim leads to another decision.
    async fn place(&self, delivered: &JobDelivery) -> Result<Destination, SessionError> {
        let Dispatcher {
            shared,
            app,
            metrics,
            ..
        } = self.dispatcher;
        let (idle, placement) = (shared.store.idle_runners(), shared.store.placement());
        let JobDelivery { job, avoid, .. } = delivered;
        let hint = job.hint.as_ref();
        let mut refused_claims = 0;
        loop {
            let candidates = idle.candidates(app, hint).await?;
            let candidates = match avoid.is_empty() {
                true => candidates,
                false => {
                    let others = idle.other_candidates(app, hint, avoid).await?;
                    candidates.without(avoid, others)
                }
            };
            let decision = fal::decide(job, candidates, refused_claims);
            let unavailable = match &decision.target {
                Target::Runner { runner } => {
                    let claim = placement.claim(app, job.id, runner, CLAIM_MS, &decision);
                    match claim.await? {
                        Claim::Won(epoch) => {
                            metrics.dispatched(hint, &decision);
                            return Ok(Destination::Runner(runner.clone(), epoch));
                        }
                        Claim::Refused => {
                            metrics.refused(hint);
                            refused_claims += 1;
                            continue;
                        }
                        Claim::Unavailable(reason) => reason,
                    }
                }
                Target::Shared => {
                    let moved = placement.move_to_shared(app, job.id, &decision);
                    match moved.await? {
                        None => {
                            metrics.dispatched(hint, &decision);
                            return Ok(Destination::Shared);
                        }
                        Some(reason) => reason,
                    }
                }
            };
            if let Some(reroute) = self
                .dispatcher
                .rerouter()
                .reroute(delivered, unavailable)
                .await?
            {
                return Ok(reroute);
            }
        }
    }
}
