//! Leadership of an app: a lease in Redis, backed by the broker's single active consumer. Two
//! routers that both assume leadership therefore never dispatch the same job in parallel.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_process::retry;
use warmq_types::owner_lane::OwnerLane;
use warmq_types::policy_name::PolicyName;

use super::session::Session;
use super::{Dispatcher, immediate, maintenance, reconcile, scaling, warm, without_redis};
use crate::session_error::SessionError;

/// Duration of the leader lease.
pub(super) const LEADER_LEASE: Duration = Duration::from_secs(5);

const RENEWAL_INTERVAL: Duration = Duration::from_millis(1500);

/// Interval at which a follower bids, and so the longest gap between a lapsed lease and the next
/// leadership.
const BID_INTERVAL: Duration = Duration::from_millis(500);

/// Leads while no other router does, until `shutdown`.
pub(super) async fn follow(dispatcher: Arc<Dispatcher>, shutdown: CancellationToken) {
    let mut leadership: Option<Leadership> = None;
    let mut answered = Instant::now();
    loop {
        if leadership.as_ref().is_some_and(Leadership::has_ended) {
            // The task panicked: renewing the lease all the same would leave the app without a
            // dispatcher.
            end(&mut leadership).await;
            stop_leading(&dispatcher).await;
            tokio::time::sleep(BID_INTERVAL).await;
        }
        let leads = (dispatcher.bids)
            .lead(&dispatcher.app, &dispatcher.name)
            .await;
        match (&leads, &leadership) {
            (Ok(true), None) => {
                tracing::info!(app = %dispatcher.app, "became the leader of an app");
                leadership = Some(Leadership::begin(&dispatcher, &shutdown));
            }
            (Ok(false), Some(_)) => {
                tracing::warn!(app = %dispatcher.app, "another router became the leader");
                end(&mut leadership).await;
            }
            // Redis is unreachable: dispatching continues, fenced by the single active consumer.
            (Err(error), Some(_)) => {
                tracing::warn!(%error, "the leader lease cannot be renewed");
            }
            // No election is possible, and the last leader may be dead: the single active consumer
            // decides.
            (Err(error), None) if answered.elapsed() > LEADER_LEASE => {
                tracing::warn!(app = %dispatcher.app, %error, "dispatches without an election");
                leadership = Some(Leadership::begin(&dispatcher, &shutdown));
            }
            (Err(error), None) => tracing::debug!(%error, "no election is possible now"),
            (Ok(true), Some(_)) | (Ok(false), None) => {}
        }
        if leads.is_ok() {
            answered = Instant::now();
        }
        let pause = (leadership.as_ref()).map_or(BID_INTERVAL, |_| RENEWAL_INTERVAL);
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    end(&mut leadership).await;
    stop_leading(&dispatcher).await;
}

async fn stop_leading(dispatcher: &Dispatcher) {
    let Dispatcher {
        shared, app, name, ..
    } = dispatcher;
    if let Err(error) = shared.store.leadership().release(app, name).await {
        tracing::debug!(%error, "the leader lease stays until it lapses");
    }
}

/// A period of leadership.
struct Leadership {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Leadership {
    fn begin(dispatcher: &Arc<Dispatcher>, shutdown: &CancellationToken) -> Self {
        let stop = shutdown.child_token();
        let (dispatcher, until) = (dispatcher.clone(), stop.clone());
        Self::of(stop, async move {
            // `dispatch` checks `until` itself and completes the sends in progress.
            retry::until_known("dispatching", &until, || dispatch(&dispatcher, &until)).await;
        })
    }

    fn of(stop: CancellationToken, dispatching: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = tokio::spawn(dispatching);
        Self { stop, task }
    }

    /// Returns whether the task ended without being stopped.
    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// Dispatches session after session until `stop`, by the app's policy, or without one while Redis
/// is unreachable. A change of the app's settings ends the session; the next one applies them.
async fn dispatch(dispatcher: &Dispatcher, stop: &CancellationToken) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    while !stop.is_cancelled() {
        let session = Session::open(dispatcher).await?;
        let config = shared.apps.config(app);
        let until = stop.child_token();
        let dispatching = async {
            if let Err(reason) = shared.store.check().requirements().await {
                return without_redis::run(dispatcher, &session, &until, &reason).await;
            }
            (shared.store.leadership())
                .record_policy(app, config.policy)
                .await?;
            list_overflow_queues(dispatcher).await?;
            let placing = async {
                match config.policy {
                    PolicyName::Warm => warm::run(dispatcher, &session, &until).await,
                    PolicyName::Fal => immediate::run(dispatcher, &session, &until).await,
                }
            };
            // Concurrent, so that placing never waits for maintenance.
            tokio::select! {
                ended = placing => ended,
                Err(broken) = maintenance::run(dispatcher, &session) => Err(broken),
                Err(broken) = reconcile::run(dispatcher, &session) => Err(broken),
                Err(broken) = scaling::run(dispatcher, &session) => Err(broken),
            }
        };
        let superseded = async {
            shared.apps.differs(app, &config).await;
            tracing::info!(%app, "the app's settings changed: starting a new session");
            until.cancel();
            std::future::pending().await
        };
        let ended = tokio::select! {
            ended = dispatching => ended,
            () = superseded => Ok(()),
            // Otherwise a call that hangs would leave the app without a dispatcher.
            stuck = session.stuck() => Err(stuck),
        };
        session.close().await;
        ended.inspect_err(|broken| shared.limits.note(broken))?;
    }
    Ok(())
}

/// Combines the overflow queues that Redis lists with those of earlier sessions, which Redis may
/// have lost.
async fn list_overflow_queues(dispatcher: &Dispatcher) -> Result<(), warmq_store::Error> {
    let Dispatcher {
        shared,
        app,
        lane_progress,
        ..
    } = dispatcher;
    let listed = shared.store.overflow_queues();
    for queue in listed.all(app).await? {
        lane_progress.begin_overflow(queue);
    }
    let known: Vec<OwnerLane> = (lane_progress.overflows().into_iter())
        .map(|(queue, _)| queue)
        .collect();
    listed.add(app, &known).await
}

async fn end(leadership: &mut Option<Leadership>) {
    if let Some(Leadership { stop, task }) = leadership.take() {
        stop.cancel();
        if let Err(error) = task.await {
            tracing::error!(%error, "a dispatcher panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leadership_whose_task_panicked_has_ended() {
        let steady = Leadership::of(CancellationToken::new(), std::future::pending());
        let broken = Leadership::of(CancellationToken::new(), async {
            std::panic::panic_any("simulated by a test")
        });
        while !broken.has_ended() {
            tokio::task::yield_now().await;
        }
        assert!(!steady.has_ended());
        end(&mut Some(broken)).await;
    }
}
