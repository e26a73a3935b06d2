//! Placement while Redis is unreachable: every job goes to the shared queue, since idle runners and
//! their models are unknown. Workers run jobs without a lease and record the results when Redis is
//! back.
//!
//! No leader can be elected, so all routers may do this at once: the broker's single active
//! consumer chooses one.

use std::pin::pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use warmq_store::Store;
use warmq_types::job::Priority;

use super::Dispatcher;
use super::lanes::{JobDelivery, LOW_LANE_INTERVAL};
use super::sending::Destination;
use super::session::{Session, ticks};
use crate::session_error::SessionError;

const MAX_UNCONFIRMED: usize = 64;

const LANE_PREFETCH: u16 = 256;

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
    let connection = &session.connection;
    let mut normal = dispatcher
        .consume_lane(connection, Priority::Normal, LANE_PREFETCH)
        .await?;
    // One low-priority job at a time, held while others wait.
    let mut low = dispatcher
        .consume_lane(connection, Priority::Low, 1)
        .await?;
    let mut held_low: Option<JobDelivery> = None;
    let mut sends = FuturesUnordered::new();
    let mut low_lane = ticks(LOW_LANE_INTERVAL);
    let mut back = pin!(redis_is_back(&shared.store));
    loop {
        let held = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = &mut back => {
                tracing::info!(%app, "redis is back: jobs go to chosen runners again");
                break;
            }
            sent = sends.try_next(), if !sends.is_empty() => {
                sent?;
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
            sends.push(dispatcher.send(held, Destination::Shared));
        }
    }
    while sends.try_next().await?.is_some() {}
    Ok(())
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
