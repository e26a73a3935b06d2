//! Policy `warm`: jobs are held, unacknowledged, until the policy has a runner for them.
//!
//! ```text
//! jobs.<app>, jobs.<app>.low, ─┐
//! shared.<app> after an outage ┤
//! {app}:changes, :cancelled,  ─┼─ one event at a time ─> desk: policy ─> claim ─> sends, side by side
//! a look/s, deadlines ─────────┘
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | `desk` | the policy, and how its commands are carried out |
//! | `fleet` | runners: news from Redis become the policy's events |
//! | `hints` | the policy's numbers for hints |
//! | `window` | the held jobs with their deliveries |
//! | `clock` | seconds, by Redis' clock |
//! | `record` | decisions in words, for the job's record |
//!
//! Everything here can be lost: the next session reads the fleet and what was learned from Redis, and the broker delivers
//! the held jobs again.

mod clock;
mod desk;
mod fleet;
mod hints;
mod record;
mod window;

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use lapin::Consumer;
use tokio_util::sync::CancellationToken;
use warmq_types::job::Priority;

use super::Dispatcher;
use super::session::{LOOK, Session, ticks};
use crate::broken::Broken;
use desk::Desk;

/// Jobs of a lane that are held at most; the others wait in RabbitMQ.
const WINDOW: u16 = 1000;

/// Sends that wait for their confirm at once, before further jobs are taken in.
const SENDS: usize = 256;

/// While no deadline is ahead.
const LONG: Duration = Duration::from_secs(60);

/// Dispatches until `stop`.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), Broken> {
    let Dispatcher { shared, app, .. } = dispatcher;
    // In this order: no change between the first look and the news is missed, and no job comes before the fleet is known.
    let mut changes = shared.store.runner_events(app).await?;
    let mut cancellations = shared.store.cancellations(app).await?;
    let mut desk = Desk::open(dispatcher).await?;
    let connection = &session.connection;
    let mut normal = dispatcher
        .lane(connection, Priority::Normal, WINDOW)
        .await?;
    let mut low = dispatcher.lane(connection, Priority::Low, WINDOW).await?;
    let mut shared_queue = dispatcher.shared_queue(connection, WINDOW).await?;
    let mut sends = FuturesUnordered::new();
    let mut looks = ticks(LOOK);
    loop {
        let due = desk
            .next_deadline()
            .unwrap_or_else(|| tokio::time::Instant::now() + LONG);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = sends.try_next(), if !sends.is_empty() => {
                if let Some(gone) = sent?.flatten() {
                    desk.came_back(gone).await?;
                }
            }
            change = changes.next() => desk.changed(change.ok_or(Broken::Unheard)?).await?,
            cancelled = cancellations.next() => {
                desk.ended(cancelled.ok_or(Broken::Unheard)?).await?;
            }
            _ = looks.tick() => {
                session.upkeep.look(desk.held(), |job| desk.holds(job));
                desk.look().await?;
            }
            () = tokio::time::sleep_until(due) => desk.due().await?,
            delivery = shared_queue.next(), if sends.len() < SENDS => {
                if let Some(held) = dispatcher.read_shared(delivery).await? {
                    desk.arrived(held).await?;
                }
            }
            delivery = first_of(&mut normal, &mut low), if sends.len() < SENDS => {
                if let Some(held) = dispatcher.read(delivery).await? {
                    desk.arrived(held).await?;
                }
            }
        }
        if desk.is_active {
            session.upkeep.stir();
        }
        for (held, destination) in desk.outbox.drain(..) {
            sends.push(dispatcher.send(held, destination));
        }
    }
    // What is on its way arrives and is acknowledged; what is held goes back with the channel.
    while sends.try_next().await?.is_some() {}
    desk.close().await
}

/// The next delivery of the first of these consumers that has one.
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
