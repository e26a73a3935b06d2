//! Policy `warm`: holds jobs unacknowledged until the policy chooses a runner.
//!
//! ```text
//! jobs.<app>, jobs.<app>.low, ─┐
//! shared.<app> after an outage ┤
//! {app}:changes, :cancelled,  ─┼─ one event at a time ─> policy_driver: policy ─> claim ─>
//! concurrent sends
//! a tick/s, deadlines ──────────┘
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | `policy_driver` | translates events for the policy and executes its commands |
//! | `runner_tracker` | runners: turns their events in Redis into the policy's events |
//! | `hints` | numbers of hints |
//! | `held_jobs` | the held jobs with their deliveries |
//! | `clock` | seconds, by Redis' clock |
//! | `decision_log` | decisions and holds as the job's record describes them |
//!
//! All state here is disposable: the next session reads runners and learned statistics from Redis,
//! and the broker redelivers the held jobs.

mod clock;
mod decision_log;
mod held_jobs;
mod hints;
mod policy_driver;
mod runner_tracker;

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use lapin::Consumer;
use tokio_util::sync::CancellationToken;
use warmq_types::job::Priority;

use super::Dispatcher;
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::session_error::SessionError;
use policy_driver::PolicyDriver;

/// Held jobs per lane; the others wait in RabbitMQ.
const LANE_PREFETCH: u16 = 1000;

/// Sends that may await their confirm before further jobs are consumed.
const MAX_UNCONFIRMED: usize = 256;

/// Timer while no deadline is ahead.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Dispatches until `stop`.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    // Order matters: subscribe before the first comparison, so that no event is missed; consume
    // after it, so that all runners are tracked.
    let mut changes = shared.store.runner_feed().events(app).await?;
    let mut cancellations = shared.store.cancellation().subscribe(app).await?;
    let mut driver = PolicyDriver::open(dispatcher).await?;
    let connection = &session.connection;
    let mut normal = dispatcher
        .consume_lane(connection, Priority::Normal, LANE_PREFETCH)
        .await?;
    let mut low = dispatcher
        .consume_lane(connection, Priority::Low, LANE_PREFETCH)
        .await?;
    let mut shared_queue = dispatcher
        .consume_shared_queue(connection, LANE_PREFETCH)
        .await?;
    let mut sends = FuturesUnordered::new();
    let mut tick = ticks(TICK_INTERVAL);
    loop {
        let due = driver
            .next_deadline()
            .unwrap_or_else(|| tokio::time::Instant::now() + MAX_SLEEP);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = sends.try_next(), if !sends.is_empty() => {
                if let Some(gone) = sent?.flatten() {
                    driver.runner_gone(gone).await?;
                }
            }
            change = changes.next() => driver.changed(change.ok_or(SessionError::SubscriptionEnded)?).await?,
            cancelled = cancellations.next() => {
                driver.ended(cancelled.ok_or(SessionError::SubscriptionEnded)?).await?;
            }
            _ = tick.tick() => {
                session.maintenance.report_held(driver.held(), |job| driver.holds(job));
                driver.tick().await?;
            }
            () = tokio::time::sleep_until(due) => driver.due().await?,
            delivery = shared_queue.next(), if sends.len() < MAX_UNCONFIRMED => {
                if let Some(held) = dispatcher.read_shared(delivery).await? {
                    driver.arrived(held).await?;
                }
            }
            delivery = first_of(&mut normal, &mut low), if sends.len() < MAX_UNCONFIRMED => {
                if let Some(held) = dispatcher.read(delivery).await? {
                    driver.arrived(held).await?;
                }
            }
        }
        if driver.is_active {
            session.maintenance.wake();
        }
        for (held, destination) in driver.outbox.drain(..) {
            sends.push(dispatcher.send(held, destination));
        }
    }
    // Complete the sends in progress; held jobs return to their lanes with the channels.
    while sends.try_next().await?.is_some() {}
    driver.close().await
}

/// Returns the next delivery, of `first` if both have one.
async fn first_of(
    first: &mut Consumer,
    second: &mut Consumer,
) -> Option<lapin::Result<lapin::message::Delivery>> {
    tokio::select! {
        biased;
        delivery = first.next() => delivery,
        delivery = second.next() => delivery,
    }
}
