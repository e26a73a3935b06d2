//! Consumers of an app's backlog: two lanes, their overflow queues and the shared queue, each on a
//! channel of its own.

use std::collections::VecDeque;
use std::future::pending;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::{Channel, Consumer};
use serde_json::Value;
use tokio::time::{Instant, Interval};
use warmq_broker::{DeadLetter, Topology, acknowledgement, consumer};
use warmq_types::ids::{JobId, RunnerId};
use warmq_types::job::{JobSpec, Priority};
use warmq_types::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::lane_progress::LaneProgress;
use super::overflow::{OverflowDelivery, OverflowQueues, Slot};
use super::sending::{JobSender, PlacedJob};
use super::session::{Session, SharedConnection, ticks};
use crate::session_error::SessionError;

/// Interval at which a held low-priority job checks whether the shared queue is empty.
const LOW_LANE_INTERVAL: Duration = Duration::from_millis(100);

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
    /// Counts it in its lane or overflow queue until it is acknowledged.
    pub(super) slot: Option<Slot>,
}

impl JobDelivery {
    /// Decodes the job with its input.
    pub(super) fn decode_job(&self) -> JobSpec {
        // Decoding succeeded once before.
        JobMessage::decode(&self.delivery.data)
            .map_or_else(|_| self.job.clone(), |message| message.job)
    }

    /// Returns the time of its delivery by this machine's clock.
    pub(super) fn delivered(&self) -> SystemTime {
        SystemTime::now() - self.since.elapsed()
    }

    /// Returns whether it was delivered at least `longest` ago.
    pub(super) fn is_older_than(&self, longest: Duration) -> bool {
        self.since.elapsed() >= longest
    }

    /// Nacks the message with requeue, so that the broker redelivers it at once.
    pub(super) async fn return_to_lane(self) -> Result<(), SessionError> {
        Ok(acknowledgement::nack(&self.delivery.acker, true).await?)
    }
}

/// How an app's queues are consumed.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimits {
    /// Unacknowledged messages per lane; further ones wait in RabbitMQ.
    pub(super) prefetch: u16,
    /// Sends that may await their confirm before further jobs are consumed.
    pub(super) max_unconfirmed: usize,
    /// Whether the placer holds jobs and orders both lanes: then the low lane has the same
    /// prefetch, the shared queue is consumed as well, and jobs may move to overflow queues.
    /// Otherwise one low-priority job per queue waits here until the shared queue is empty.
    pub(super) placer_holds: bool,
}

impl LaneLimits {
    /// For placers that decide each job on arrival.
    pub(super) const WITHOUT_HOLDS: Self = Self {
        prefetch: 256,
        max_unconfirmed: 64,
        placer_holds: false,
    };
}

/// An input of [`Lanes`], not decoded yet.
pub(super) enum LaneInput {
    /// A delivery for the placer.
    Lane(Priority, Option<lapin::Result<Delivery>>),
    /// A delivery of the low lane that waits here.
    LowLane(Option<lapin::Result<Delivery>>),
    Shared(Option<lapin::Result<Delivery>>),
    Overflow(OverflowDelivery),
    /// The waiting low-priority jobs must be checked.
    CheckLow,
}

/// What [`Lanes`] release.
pub(super) enum LaneOutput {
    /// A job for the placer.
    Arrived(JobDelivery),
    /// A job on its way to an overflow queue.
    Moved(PlacedJob),
}

/// The consumers of a session.
pub(super) struct Lanes<'a> {
    sender: JobSender<'a>,
    progress: &'a LaneProgress,
    /// For reading the depth of the shared queue.
    channel: &'a Channel,
    longest_held: Duration,
    limits: LaneLimits,
    normal: Consumer,
    low: Consumer,
    shared: Option<Consumer>,
    overflow: OverflowQueues<'a>,
    low_waiting: VecDeque<JobDelivery>,
    low_check: Interval,
}

impl<'a> Lanes<'a> {
    /// Starts the consumers.
    pub(super) async fn consume(
        dispatcher: &'a Dispatcher,
        session: &'a Session,
        limits: LaneLimits,
    ) -> Result<Self, SessionError> {
        let Dispatcher { shared, app, .. } = dispatcher;
        let connection = &session.connection;
        let lane = async |lane: Priority, prefetch| {
            let queue = shared.topology.lane_queue(app, lane);
            let tag = format!("dispatch-{}", lane.as_str());
            let channel = channel(connection, prefetch).await?;
            Ok::<_, SessionError>(consumer::consume(&channel, &queue, &tag).await?)
        };
        let normal = lane(Priority::Normal, limits.prefetch).await?;
        let low_prefetch = limits.placer_holds.then_some(limits.prefetch);
        let low = lane(Priority::Low, low_prefetch.unwrap_or(1)).await?;
        // With priority over idle runners, so that jobs left there by an outage of Redis are
        // dispatched by age again.
        let shared_queue = match limits.placer_holds {
            true => {
                let queue = shared.topology.shared_queue(app);
                let channel = channel(connection, limits.prefetch).await?;
                Some(consumer::consume_first(&channel, &queue, "dispatch-shared").await?)
            }
            false => None,
        };
        Ok(Self {
            sender: dispatcher.sender(),
            progress: &dispatcher.lane_progress,
            channel: &session.channel,
            longest_held: shared.longest_held,
            limits,
            normal,
            low,
            shared: shared_queue,
            overflow: OverflowQueues::open(dispatcher, session, limits).await?,
            low_waiting: VecDeque::new(),
            low_check: ticks(LOW_LANE_INTERVAL),
        })
    }

    /// Waits for the next input, which [`Lanes::read`] must process. Cancel-safe. `unconfirmed`:
    /// sends that await their confirm.
    pub(super) async fn next(&mut self, unconfirmed: usize) -> LaneInput {
        let has_room = unconfirmed < self.limits.max_unconfirmed;
        let low_waits = !self.limits.placer_holds;
        tokio::select! {
            biased;
            delivery = next_of(self.shared.as_mut()), if has_room => LaneInput::Shared(delivery),
            // Before the lanes, whose jobs are younger: these are as many as were sent meanwhile.
            Some(delivery) = self.overflow.next(), if has_room => LaneInput::Overflow(delivery),
            delivery = self.normal.next(), if has_room => {
                LaneInput::Lane(Priority::Normal, delivery)
            }
            // Prefetch is 1 if it waits; polling while a job waits detects a closed channel.
            delivery = self.low.next(), if has_room || low_waits => match low_waits {
                true => LaneInput::LowLane(delivery),
                false => LaneInput::Lane(Priority::Low, delivery),
            },
            _ = self.low_check.tick(), if !self.low_waiting.is_empty() && unconfirmed == 0 => {
                LaneInput::CheckLow
            }
            else => pending().await,
        }
    }

    /// Returns the job that an input releases, if any.
    pub(super) async fn read(
        &mut self,
        input: LaneInput,
    ) -> Result<Option<LaneOutput>, SessionError> {
        let arrived = match input {
            LaneInput::Lane(lane, delivery) => {
                let Some(delivered) = self.decode_of_lane(delivery).await? else {
                    return Ok(None);
                };
                return self.overflow.admit(lane, delivered).await.map(Some);
            }
            LaneInput::LowLane(delivery) => {
                self.low_waiting
                    .extend(self.decode_of_lane(delivery).await?);
                None
            }
            // Its jobs are of any age, so they do not count as progress of a lane.
            LaneInput::Shared(delivery) => {
                self.progress.note_shared();
                self.decode(delivery).await?
            }
            LaneInput::Overflow(delivery) => self.read_overflow(delivery).await?,
            LaneInput::CheckLow => self.release_low().await?,
        };
        Ok(arrived.map(LaneOutput::Arrived))
    }

    /// Returns the low-priority jobs that wait here.
    pub(super) fn low_waiting(&self) -> Vec<JobId> {
        let waiting = self.low_waiting.iter();
        waiting.map(|delivered| delivered.job.id).collect()
    }

    /// Removes this job if it waits here.
    pub(super) fn take_low(&mut self, job: JobId) -> Option<JobDelivery> {
        let mut waiting = self.low_waiting.iter();
        let index = waiting.position(|delivered| delivered.job.id == job)?;
        self.low_waiting.remove(index)
    }

    /// Deletes the overflow queues that have ended; called every second.
    pub(super) async fn delete_ended_overflows(&mut self) -> Result<(), SessionError> {
        self.overflow.delete_ended().await
    }

    /// Releases a waiting low-priority job once the shared queue is empty. A job that waited for
    /// `longest_held` returns to its queue before the broker's `consumer_timeout`.
    async fn release_low(&mut self) -> Result<Option<JobDelivery>, SessionError> {
        let queue = self.sender.topology.shared_queue(self.sender.app);
        if Topology::depth(self.channel, &queue).await? == 0 {
            return Ok(self.low_waiting.pop_front());
        }
        let longest = self.longest_held;
        let is_old = |first: &JobDelivery| first.is_older_than(longest);
        while self.low_waiting.front().is_some_and(is_old)
            && let Some(old) = self.low_waiting.pop_front()
        {
            old.return_to_lane().await?;
        }
        Ok(None)
    }

    async fn read_overflow(
        &mut self,
        delivered: OverflowDelivery,
    ) -> Result<Option<JobDelivery>, SessionError> {
        let Some((jobs, delivery)) = self.overflow.current(delivered) else {
            return Ok(None);
        };
        let Some(mut delivered) = self.decode(delivery).await? else {
            return Ok(None);
        };
        self.progress.note_overflow(&jobs, &delivered.job);
        let waits = jobs.lane == Priority::Low && !self.limits.placer_holds;
        delivered.slot = Some(self.overflow.enter(jobs));
        if waits {
            self.low_waiting.push_back(delivered);
            return Ok(None);
        }
        Ok(Some(delivered))
    }

    async fn decode_of_lane(
        &self,
        delivery: Option<lapin::Result<Delivery>>,
    ) -> Result<Option<JobDelivery>, SessionError> {
        let delivered = self.decode(delivery).await?;
        if let Some(delivered) = &delivered {
            self.progress.note(&delivered.job);
        }
        Ok(delivered)
    }

    /// Decodes a delivery. A message that cannot be decoded is dead-lettered with the reason.
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
                    slot: None,
                }))
            }
            Err(error) => {
                tracing::warn!(
                    app = %self.sender.app, %error,
                    "dead-lettered a message that cannot be read"
                );
                let letter = DeadLetter::new(delivery.data.clone(), error.to_string());
                self.sender.dead_letter(letter).await?;
                acknowledgement::ack(&delivery.acker).await?;
                Ok(None)
            }
        }
    }
}

/// Returns the next delivery; waits forever without a consumer.
async fn next_of(consumer: Option<&mut Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => pending().await,
    }
}

/// Opens a channel for a consumer.
pub(super) async fn channel(
    connection: &SharedConnection,
    prefetch: u16,
) -> Result<Channel, SessionError> {
    let channel = connection.create_channel().await?;
    consumer::limit(&channel, prefetch).await?;
    Ok(channel)
}
