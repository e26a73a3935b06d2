//! Policy `fal`: decides each job on arrival, from the runners' current state in Redis.

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use warmq_policy::fal;
use warmq_store::Claim;
use warmq_types::job::{Priority, Target};

use super::Dispatcher;
use super::lanes::{JobDelivery, LOW_LANE_INTERVAL};
use super::sending::{CLAIM_MS, Destination, RunnerGone};
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::session_error::SessionError;

/// Sends that await their confirm at once; decisions are sequential.
const MAX_UNCONFIRMED: usize = 64;

const LANE_PREFETCH: u16 = 256;

/// Dispatches until `stop`.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    let connection = &session.connection;
    let mut changes = shared.store.runner_feed().events(app).await?;
    let mut cancellations = shared.store.cancellation().subscribe(app).await?;
    let mut normal = dispatcher
        .consume_lane(connection, Priority::Normal, LANE_PREFETCH)
        .await?;
    // One low-priority job at a time, held until its turn.
    let mut low = dispatcher
        .consume_lane(connection, Priority::Low, 1)
        .await?;
    let mut held_low: Option<JobDelivery> = None;
    let mut sends = FuturesUnordered::new();
    let mut tick = ticks(TICK_INTERVAL);
    let mut low_lane = ticks(LOW_LANE_INTERVAL);
    loop {
        let held = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = sends.try_next(), if !sends.is_empty() => sent?.flatten().map(|gone: RunnerGone| gone.held),
            _ = tick.tick() => {
                let low = held_low.as_ref().map(|held| held.job.id);
                session.maintenance.report_held(usize::from(low.is_some()), |job| low == Some(job));
                None
            }
            change = changes.next() => {
                dispatcher.metrics.runner_event(&change.ok_or(SessionError::SubscriptionEnded)?);
                session.maintenance.wake();
                None
            }
            cancelled = cancellations.next() => {
                let cancelled = cancelled.ok_or(SessionError::SubscriptionEnded)?;
                if let Some(held) = held_low.take_if(|held| held.job.id == cancelled) {
                    sends.push(dispatcher.send(held, Destination::Discard));
                }
                None
            }
            delivery = normal.next(), if sends.len() < MAX_UNCONFIRMED => dispatcher.read(delivery).await?,
            // Prefetch is 1; polling while a job is held detects a closed channel.
            delivery = low.next() => {
                held_low = dispatcher.read(delivery).await?;
                None
            }
            _ = low_lane.tick(), if held_low.is_some() && sends.is_empty() => {
                dispatcher.release_low(session, &mut held_low).await?
            }
        };
        if let Some(held) = held {
            let destination = dispatcher.place(&held).await?;
            sends.push(dispatcher.send(held, destination));
            session.maintenance.wake();
        }
    }
    // Complete the sends in progress; the held job returns to its lane with the channel.
    while sends.try_next().await?.is_some() {}
    Ok(())
}

impl Dispatcher {
    /// Decides where a job goes and claims the runner. A refused claim leads to another decision.
    async fn place(&self, held: &JobDelivery) -> Result<Destination, SessionError> {
        let store = &self.shared.store;
        let JobDelivery { job, avoid, .. } = held;
        let hint = job.hint.as_ref();
        let mut refused_claims = 0;
        loop {
            let candidates = store.idle_runners().candidates(&self.app, hint).await?;
            let candidates = match avoid.is_empty() {
                true => candidates,
                false => {
                    let others = store
                        .idle_runners()
                        .other_candidates(&self.app, hint, avoid)
                        .await?;
                    candidates.without(avoid, others)
                }
            };
            let decision = fal::decide(job, candidates, refused_claims);
            let unavailable = match &decision.target {
                Target::Runner { runner } => {
                    let claim = store
                        .placement()
                        .claim(&self.app, job.id, runner, CLAIM_MS, &decision);
                    match claim.await? {
                        Claim::Won(epoch) => {
                            self.metrics.dispatched(hint, &decision);
                            return Ok(Destination::Runner(runner.clone(), epoch));
                        }
                        Claim::Refused => {
                            self.metrics.refused(hint);
                            refused_claims += 1;
                            continue;
                        }
                        Claim::Unavailable(reason) => reason,
                    }
                }
                Target::Shared => match store
                    .placement()
                    .move_to_shared(&self.app, job.id, &decision)
                    .await?
                {
                    None => {
                        self.metrics.dispatched(hint, &decision);
                        return Ok(Destination::Shared);
                    }
                    Some(reason) => reason,
                },
            };
            if let Some(reroute) = self.reroute(held, unavailable).await? {
                return Ok(reroute);
            }
        }
    }
}
