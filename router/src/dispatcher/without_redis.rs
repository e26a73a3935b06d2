//! Redis is away: nobody knows who is idle and who holds what, but jobs go on. Everything goes to the shared queue as it
//! comes, until Redis answers again. Workers run it without a lease and record that when Redis is back.
//!
//! All routers may do this at once, since nobody can be elected: the broker's single active consumer chooses one.

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

/// Sends that wait for their confirm at once.
const MAX_UNCONFIRMED: usize = 64;

/// Jobs of the normal lane that the broker hands out ahead.
const LANE_PREFETCH: u16 = 256;

/// How often Redis is asked whether it is back.
const REDIS_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Sends everything to the shared queue until Redis is back, or `stop`. `reason`: why it is away.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
    reason: &warmq_store::Error,
) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    tracing::warn!(%app, %reason, "Redis is away: jobs go to the shared queue");
    let connection = &session.connection;
    let mut normal = dispatcher
        .consume_lane(connection, Priority::Normal, LANE_PREFETCH)
        .await?;
    // One low job at a time: it is held here until nothing else waits.
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
                tracing::info!(%app, "Redis is back: jobs go to chosen runners again");
                break;
            }
            sent = sends.try_next(), if !sends.is_empty() => {
                sent?;
                None
            }
            delivery = normal.next(), if sends.len() < MAX_UNCONFIRMED => dispatcher.read(delivery).await?,
            // One at a time is delivered; its channel is watched while one is held.
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

/// Returns once Redis does all that dispatching needs: one that is full answers a ping.
async fn redis_is_back(store: &Store) {
    loop {
        tokio::time::sleep(REDIS_CHECK_INTERVAL).await;
        if store.check().requirements().await.is_ok() {
            return;
        }
    }
}
