//! An app's backlog as the dispatcher reads it: two lanes, each on a channel of its own.

use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::{Channel, Consumer};
use warmq_common::amqp::{DeadLetter, Topology, consumer};
use warmq_common::ids::RunnerId;
use warmq_common::job::{JobSpec, Priority};
use warmq_common::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::session::SharedConnection;
use crate::broken::Broken;

/// How often a held low job looks whether the shared queue is empty.
pub(super) const LOW_LOOK: Duration = Duration::from_millis(100);

/// A job between its backlog and its runner: unacknowledged, so whatever breaks here, it is delivered again.
pub(super) struct Held {
    pub(super) job: JobSpec,
    /// The runner under which its last attempt came to nothing.
    pub(super) avoid: Option<RunnerId>,
    pub(super) delivery: Delivery,
}

impl Dispatcher {
    /// Consumes a lane; the broker hands out up to `window` jobs ahead.
    pub(super) async fn lane(
        &self,
        connection: &SharedConnection,
        lane: Priority,
        window: u16,
    ) -> Result<Consumer, Broken> {
        let channel = connection.create_channel().await?;
        consumer::limit(&channel, window).await?;
        let queue = self.shared.topology.backlog_queue(&self.app, lane);
        let tag = format!("dispatch-{}", lane.as_str());
        Ok(consumer::consume(&channel, &queue, &tag).await?)
    }

    /// Whether no job waits for whichever runner is free first: a low one may go there then.
    pub(super) async fn shared_is_empty(&self, channel: &Channel) -> Result<bool, Broken> {
        let queue = self.shared.topology.shared_queue(&self.app);
        Ok(Topology::depth(channel, &queue).await? == 0)
    }

    /// The job in what a lane gave. One that can not be read is dead-lettered, with the reason.
    pub(super) async fn read(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<Held>, Broken> {
        let delivery = delivery.ok_or(Broken::Ended)??;
        match JobMessage::decode(&delivery.data) {
            Ok(JobMessage { job, avoid, .. }) => {
                self.passed.note(&job);
                Ok(Some(Held {
                    job,
                    avoid,
                    delivery,
                }))
            }
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
