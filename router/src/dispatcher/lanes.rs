//! An app's backlog as the dispatcher reads it: two lanes, each on a channel of its own.

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::{Connection, Consumer};
use warmq_common::amqp::{DeadLetter, consumer};
use warmq_common::job::{JobSpec, Priority};
use warmq_common::message::{JobMessage, Versioned};

use super::Dispatcher;
use crate::broken::Broken;

/// A job between its backlog and its runner: unacknowledged, so whatever breaks here, it is delivered again.
pub(super) struct Held {
    pub(super) job: JobSpec,
    pub(super) delivery: Delivery,
}

impl Dispatcher {
    /// Consumes a lane; the broker hands out up to `window` jobs ahead.
    pub(super) async fn lane(
        &self,
        connection: &Connection,
        lane: Priority,
        window: u16,
    ) -> Result<Consumer, Broken> {
        let channel = consumer::channel(connection, window).await?;
        let queue = self.shared.topology.backlog_queue(&self.app, lane);
        let tag = format!("dispatch-{}", lane.as_str());
        Ok(consumer::consume(&channel, &queue, &tag).await?)
    }

    /// The job in what a lane gave. One that can not be read is dead-lettered, with the reason.
    pub(super) async fn read(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<Held>, Broken> {
        let delivery = delivery.ok_or(Broken::Ended)??;
        match JobMessage::decode(&delivery.data) {
            Ok(JobMessage { job, .. }) => Ok(Some(Held { job, delivery })),
            Err(error) => {
                tracing::warn!(app = %self.app, %error, "dead-lettered a message that can not be read");
                let dead = DeadLetter::new(delivery.data.clone(), error.to_string()).message();
                let queue = self.shared.topology.dead_queue(&self.app);
                self.shared.publisher.publish("", &queue, &dead).await?;
                delivery.ack(BasicAckOptions::default()).await?;
                Ok(None)
            }
        }
    }
}
