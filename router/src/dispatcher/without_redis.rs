//! Placement while Redis is unreachable: every job goes to the shared queue, since idle runners and
//! their models are unknown. Workers run jobs without a lease and record the results when Redis is
//! back.
//!
//! No leader can be elected, so all routers may do this at once: the broker's single active
//! consumer chooses one.

use std::future::pending;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_policy::work::HeldWork;
use warmq_store::Store;

use super::Dispatcher;
use super::dispatch_loop::{DispatchLoop, Placer};
use super::lanes::{JobDelivery, LaneLimits};
use super::sending::{Destination, PlacedJob};
use super::session::Session;
use crate::session_error::SessionError;

const REDIS_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Sends every job to the shared queue until Redis is back or `stop`. `reason`: the error of Redis.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
    reason: &warmq_store::Error,
) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    tracing::warn!(%app, %reason, "redis is unreachable: jobs go to the shared queue");
    let until = stop.child_token();
    let dispatching = DispatchLoop {
        dispatcher,
        session,
        subscriptions: None,
    };
    let mut placer = WithoutRedis::default();
    let back = async {
        redis_is_back(&shared.store).await;
        tracing::info!(%app, "redis is back: jobs go to chosen runners again");
        until.cancel();
        pending().await
    };
    tokio::select! {
        ended = dispatching.run(&mut placer, &until) => ended,
        ended = back => ended,
    }
}

#[derive(Default)]
struct WithoutRedis {
    placed: Vec<PlacedJob>,
}

impl Placer for WithoutRedis {
    const LIMITS: LaneLimits = LaneLimits::WITHOUT_HOLDS;

    async fn arrived(&mut self, delivered: JobDelivery) -> Result<(), SessionError> {
        let to = Destination::Shared;
        self.placed.push(PlacedJob { delivered, to });
        Ok(())
    }

    fn placed(&mut self) -> &mut Vec<PlacedJob> {
        &mut self.placed
    }

    /// No metric has it: without Redis the number of waiting jobs is unknown.
    fn held_work(&self) -> HeldWork {
        HeldWork::default()
    }
}

/// Returns once Redis does all that dispatching needs. A ping is not enough: a full Redis answers
/// it.
async fn redis_is_back(store: &Store) {
    loop {
        tokio::time::sleep(REDIS_CHECK_INTERVAL).await;
        if store.check().requirements().await.is_ok() {
            return;
        }
    }
}
