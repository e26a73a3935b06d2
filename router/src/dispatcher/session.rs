//! The dispatcher's loop over one connection: one decision at a time, sends side by side.
//!
//! Every job stays unacknowledged in its backlog until the broker has confirmed it in its next queue, so whatever
//! breaks here, the job is delivered again, here or to the next leader.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::{self, Message, Topology, consumer};
use warmq_common::job::Priority;
use warmq_common::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::placement::Held;
use crate::broken::Broken;

/// Sends that wait for their confirm at once. Decisions are made one by one all the same.
const SENDS: usize = 64;

/// Jobs of the normal lane that the broker hands out ahead.
const WINDOW: u16 = 256;

/// How often lost runners are looked for.
const REAP: Duration = Duration::from_secs(1);

/// How often a held low job looks whether the shared queue is empty.
const LOW_LOOK: Duration = Duration::from_millis(100);

/// Dispatches over one connection until `stop`.
pub(super) async fn run(dispatcher: &Dispatcher, stop: &CancellationToken) -> Result<(), Broken> {
    let Dispatcher { shared, app, .. } = dispatcher;
    let connection =
        amqp::connect(&shared.amqp_url, &format!("warmq-router dispatch {app}")).await?;
    let channel = connection.create_channel().await?;
    shared.topology.declare_base(&channel).await?;
    shared.topology.declare_app(&channel, app).await?;

    let mut normal = lane(dispatcher, &connection, Priority::Normal, WINDOW).await?;
    // One low job at a time: it is held here until its turn comes.
    let mut low = lane(dispatcher, &connection, Priority::Low, 1).await?;
    let mut held_low: Option<Held> = None;
    let mut sends = FuturesUnordered::new();
    let mut reap = tokio::time::interval(REAP);
    let mut low_look = tokio::time::interval(LOW_LOOK);
    reap.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    low_look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    loop {
        let held = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // The runner's queue was gone: the job comes back to be placed again.
            sent = sends.try_next(), if !sends.is_empty() => sent?.flatten(),
            delivery = normal.next(), if sends.len() < SENDS => {
                read(dispatcher, delivery.ok_or(Broken::Ended)??).await?
            }
            delivery = low.next(), if held_low.is_none() => {
                held_low = read(dispatcher, delivery.ok_or(Broken::Ended)??).await?;
                None
            }
            _ = low_look.tick(), if held_low.is_some() && sends.is_empty() => {
                let depth = Topology::depth(&channel, &shared.topology.shared_queue(app)).await?;
                if depth == 0 { held_low.take() } else { None }
            }
            _ = reap.tick() => {
                for runner in shared.store.reap(app).await? {
                    tracing::warn!(app = %app, runner = %runner, "lost a runner: nothing heard for a whole lease");
                }
                None
            }
        };
        if let Some(held) = held {
            let next = dispatcher.place(&held.job).await?;
            sends.push(dispatcher.carry_out(held, next));
        }
    }
    // What is on its way arrives and is acknowledged; what is held goes back with the channel.
    while sends.try_next().await?.is_some() {}
    Ok(connection.close(200, "stopping".into()).await?)
}

/// A lane, on a channel of its own.
async fn lane(
    dispatcher: &Dispatcher,
    connection: &lapin::Connection,
    lane: Priority,
    prefetch: u16,
) -> Result<Consumer, Broken> {
    let Dispatcher { shared, app, .. } = dispatcher;
    let channel = consumer::channel(connection, prefetch).await?;
    let queue = shared.topology.backlog_queue(app, lane);
    let tag = format!("dispatch-{}", lane.as_str());
    Ok(consumer::consume(&channel, &queue, &tag).await?)
}

/// The job in a delivery. One that can not be read is dead-lettered, with the reason.
async fn read(dispatcher: &Dispatcher, delivery: Delivery) -> Result<Option<Held>, Broken> {
    match JobMessage::decode(&delivery.data) {
        Ok(message) => Ok(Some(Held {
            job: message.job,
            delivery,
        })),
        Err(error) => {
            tracing::warn!(app = %dispatcher.app, %error, "dead-lettered a message that can not be read");
            let dead = Message::dead_letter(delivery.data.clone(), error.to_string());
            let queue = dispatcher.shared.topology.dead_queue(&dispatcher.app);
            dispatcher
                .shared
                .publisher
                .publish("", &queue, &dead)
                .await?;
            delivery.ack(BasicAckOptions::default()).await?;
            Ok(None)
        }
    }
}
