//! Consumers of an app's backlog: two lanes, each on a channel of its own.

use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Channel, Consumer};
use serde_json::Value;
use tokio::time::Instant;
use warmq_broker::{DeadLetter, Topology, consumer};
use warmq_types::ids::RunnerId;
use warmq_types::job::{JobSpec, Priority};
use warmq_types::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::session::{Session, SharedConnection};
use crate::session_error::SessionError;

/// Interval at which a held low-priority job checks whether the shared queue is empty.
pub(super) const LOW_LANE_INTERVAL: Duration = Duration::from_millis(100);

/// A job between its lane and its runner. Its message is unacknowledged, so any failure here leads
/// to redelivery.
pub(super) struct JobDelivery {
    /// The job without its input, which stays in the message: thousands may be held.
    pub(super) job: JobSpec,
    /// Runners on which an attempt failed.
    pub(super) avoid: Vec<RunnerId>,
    pub(super) delivery: Delivery,
    /// Time of delivery.
    since: Instant,
}

impl JobDelivery {
    /// Decodes the job with its input.
    pub(super) fn decode_job(&self) -> JobSpec {
        // Decoding succeeded once before.
        JobMessage::decode(&self.delivery.data)
            .map_or_else(|_| self.job.clone(), |message| message.job)
    }

    /// Returns whether it was delivered at least `longest` ago.
    pub(super) fn is_older_than(&self, longest: Duration) -> bool {
        self.since.elapsed() >= longest
    }

    /// Nacks the message with requeue, so that the broker redelivers it at once.
    pub(super) async fn return_to_lane(self) -> Result<(), SessionError> {
        let again = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        self.delivery.nack(again).await?;
        Ok(())
    }
}

impl Dispatcher {
    /// Consumes a lane with the given prefetch.
    pub(super) async fn consume_lane(
        &self,
        connection: &SharedConnection,
        lane: Priority,
        prefetch: u16,
    ) -> Result<Consumer, SessionError> {
        let queue = self.shared.topology.lane_queue(&self.app, lane);
        let tag = format!("dispatch-{}", lane.as_str());
        let channel = channel(connection, prefetch).await?;
        Ok(consumer::consume(&channel, &queue, &tag).await?)
    }

    /// Consumes the shared queue with priority over idle runners, so that jobs left there by an
    /// outage of Redis are dispatched by age again.
    pub(super) async fn consume_shared_queue(
        &self,
        connection: &SharedConnection,
        prefetch: u16,
    ) -> Result<Consumer, SessionError> {
        let queue = self.shared.topology.shared_queue(&self.app);
        let channel = channel(connection, prefetch).await?;
        Ok(consumer::consume_first(&channel, &queue, "dispatch-shared").await?)
    }

    /// Takes the held low-priority job once the shared queue is empty. A job held for
    /// `longest_held` returns to its lane before the broker's `consumer_timeout`.
    pub(super) async fn release_low(
        &self,
        session: &Session,
        held: &mut Option<JobDelivery>,
    ) -> Result<Option<JobDelivery>, SessionError> {
        let queue = self.shared.topology.shared_queue(&self.app);
        if Topology::depth(&session.channel, &queue).await? == 0 {
            return Ok(held.take());
        }
        let longest = self.shared.longest_held;
        if let Some(old) = held.take_if(|held| held.is_older_than(longest)) {
            old.return_to_lane().await?;
        }
        Ok(None)
    }

    /// Decodes a delivery of a lane. A message that cannot be decoded is dead-lettered with the
    /// reason.
    pub(super) async fn read(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<JobDelivery>, SessionError> {
        let held = self.decode(delivery).await?;
        if let Some(held) = &held {
            self.lane_progress.note(&held.job);
        }
        Ok(held)
    }

    /// Decodes a delivery of the shared queue. Its jobs are of any age, so they do not count as
    /// progress of a lane.
    pub(super) async fn read_shared(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<JobDelivery>, SessionError> {
        self.lane_progress.note_shared();
        self.decode(delivery).await
    }

    async fn decode(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<JobDelivery>, SessionError> {
        let delivery = delivery.ok_or(SessionError::Ended)??;
        match JobMessage::decode(&delivery.data) {
            Ok(JobMessage { mut job, avoid, .. }) => {
                job.input = Value::Null;
                Ok(Some(JobDelivery {
                    job,
                    avoid,
                    delivery,
                    since: Instant::now(),
                }))
            }
            Err(error) => {
                tracing::warn!(app = %self.app, %error, "dead-lettered a message that cannot be read");
                let dead = DeadLetter::new(delivery.data.clone(), error.to_string()).message();
                let queue = self.shared.topology.dead_queue(&self.app);
                self.shared.publisher.publish("", &queue, &dead).await?;
                delivery.ack(BasicAckOptions::default()).await?;
                Ok(None)
            }
        }
    }
}

async fn channel(connection: &SharedConnection, prefetch: u16) -> Result<Channel, SessionError> {
    let channel = connection.create_channel().await?;
    consumer::limit(&channel, prefetch).await?;
    Ok(channel)
}
