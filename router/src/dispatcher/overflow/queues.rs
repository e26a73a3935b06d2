//! The overflow queues of a session: declared and listed before the first move, consumed, and
//! deleted when they have ended.

use std::collections::HashMap;
use std::pin::Pin;

use futures::stream::{self, SelectAll};
use futures::{Stream, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use warmq_broker::{Topology, consumer, has_returned};
use warmq_types::job::Priority;
use warmq_types::owner_lane::OwnerLane;

use super::super::Dispatcher;
use super::super::lanes::{JobDelivery, LaneLimits, LaneOutput, channel};
use super::super::sending::{Destination, PlacedJob};
use super::super::session::Session;
use super::admission::Admission;
use super::slot::{Counts, Slot};
use crate::metrics::CountGauge;
use crate::session_error::SessionError;

/// Unacknowledged messages per overflow queue.
const PREFETCH: u16 = 250;

/// What an overflow queue delivered; `None` at the end of its consumer.
pub(in super::super) struct OverflowDelivery {
    jobs: OwnerLane,
    consumer: u64,
    delivery: Option<lapin::Result<Delivery>>,
}

/// A consumer on a channel of its own.
struct OverflowConsumer {
    /// Distinguishes it from earlier consumers of its queue.
    number: u64,
    channel: Channel,
}

/// The deliveries of a queue, then the end of its consumer.
type Deliveries = Pin<Box<dyn Stream<Item = OverflowDelivery> + Send + Sync>>;

/// The overflow queues of a session.
pub(in super::super) struct OverflowQueues<'a> {
    dispatcher: &'a Dispatcher,
    session: &'a Session,
    limits: LaneLimits,
    counts: Counts,
    consumers: HashMap<OwnerLane, OverflowConsumer>,
    last_consumer: u64,
    deliveries: SelectAll<Deliveries>,
    gauge: CountGauge,
}

impl<'a> OverflowQueues<'a> {
    /// Consumes the known queues.
    pub(in super::super) async fn open(
        dispatcher: &'a Dispatcher,
        session: &'a Session,
        limits: LaneLimits,
    ) -> Result<Self, SessionError> {
        let mut queues = Self {
            dispatcher,
            session,
            limits,
            counts: Counts::new(Admission::new(usize::from(limits.prefetch))),
            consumers: HashMap::new(),
            last_consumer: 0,
            deliveries: SelectAll::new(),
            gauge: dispatcher.metrics.overflow_queues(),
        };
        for (jobs, _) in dispatcher.lane_progress.overflows() {
            queues.consume(jobs).await?;
        }
        Ok(queues)
    }

    /// Waits for the next delivery; `None` without queues. Cancel-safe.
    pub(in super::super) async fn next(&mut self) -> Option<OverflowDelivery> {
        self.deliveries.next().await
    }

    /// Returns a delivery with its queue; `None` if it belongs to an ended consumer.
    pub(in super::super) fn current(
        &self,
        delivered: OverflowDelivery,
    ) -> Option<(OwnerLane, Option<lapin::Result<Delivery>>)> {
        let current = self.consumers.get(&delivered.jobs)?;
        (current.number == delivered.consumer).then_some((delivered.jobs, delivered.delivery))
    }

    /// Counts a delivery of an overflow queue.
    pub(in super::super) fn enter(&self, jobs: OwnerLane) -> Slot {
        self.counts.enter(jobs)
    }

    /// Admits a delivery of a lane, or moves it to its owner's overflow queue.
    pub(in super::super) async fn admit(
        &mut self,
        lane: Priority,
        mut delivered: JobDelivery,
    ) -> Result<LaneOutput, SessionError> {
        let owner = delivered.job.owner.clone();
        let jobs = OwnerLane { lane, owner };
        let is_new = !delivered.delivery.redelivered && !has_returned(&delivered.delivery);
        // With one owner, moves would only cost.
        let moves = self.limits.placer_holds
            && self.dispatcher.shared.keys.are_several()
            && self.counts.lock().must_move(&jobs, is_new);
        if !moves {
            delivered.slot = Some(self.counts.hold(jobs));
            return Ok(LaneOutput::Arrived(delivered));
        }
        if !self.consumers.contains_key(&jobs) {
            self.begin(jobs.clone()).await?;
        }
        delivered.slot = Some(self.counts.enter(jobs.clone()));
        let to = Destination::Overflow(jobs);
        Ok(LaneOutput::Moved(PlacedJob { delivered, to }))
    }

    /// Lists and consumes a queue before its first message.
    async fn begin(&mut self, jobs: OwnerLane) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        tracing::info!(%app, %jobs, "an owner's jobs fill a lane: the rest overflows");
        let listed = shared.store.overflow_queues();
        listed.add(app, std::slice::from_ref(&jobs)).await?;
        self.dispatcher.lane_progress.begin_overflow(jobs.clone());
        self.consume(jobs).await
    }

    async fn consume(&mut self, jobs: OwnerLane) -> Result<(), SessionError> {
        let Self {
            dispatcher,
            session,
            limits,
            ..
        } = *self;
        let Dispatcher { shared, app, .. } = dispatcher;
        let topology = &shared.topology;
        (topology.declare_overflow(&session.channel, app, &jobs)).await?;
        let prefetch = match jobs.lane {
            Priority::Low if !limits.placer_holds => 1,
            _ => PREFETCH,
        };
        let channel = channel(&session.connection, prefetch).await?;
        let queue = topology.overflow_queue(app, &jobs);
        let consumer = consumer::consume(&channel, &queue, "dispatch-overflow").await?;
        self.last_consumer += 1;
        let number = self.last_consumer;
        let of = jobs.clone();
        // Streams that end leave silently.
        let deliveries = consumer.map(Some).chain(stream::iter([None]));
        let deliveries = deliveries.map(move |delivery| OverflowDelivery {
            jobs: of.clone(),
            consumer: number,
            delivery,
        });
        self.deliveries.push(Box::pin(deliveries));
        self.counts.lock().add_queue(&jobs);
        let consumer = OverflowConsumer { number, channel };
        self.consumers.insert(jobs, consumer);
        self.gauge.show(self.consumers.len());
        Ok(())
    }

    /// Deletes the queues that have ended; called every second.
    pub(in super::super) async fn delete_ended(&mut self) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        let quiet = self.counts.lock().tick();
        for jobs in quiet {
            let queue = shared.topology.overflow_queue(app, &jobs);
            if Topology::depth(&self.session.channel, &queue).await? > 0 {
                continue;
            }
            if let Some(ended) = self.consumers.remove(&jobs) {
                ended.channel.close(200, "done".into()).await?;
            }
            match self.delete(&jobs).await? {
                true => self.forget(&jobs).await?,
                false => self.consume(jobs).await?,
            }
        }
        Ok(())
    }

    /// Returns false if the queue is in use.
    async fn delete(&self, jobs: &OwnerLane) -> Result<bool, SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        let connection = &self.session.connection;
        // The broker closes the channel of a refused deletion.
        let channel = connection.create_channel().await?;
        match shared.topology.delete_overflow(&channel, app, jobs).await {
            Ok(deleted) => {
                channel.close(200, "done".into()).await?;
                Ok(deleted)
            }
            Err(error) if connection.status().connected() => {
                tracing::debug!(%app, %jobs, %error, "an overflow queue is still in use");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn forget(&mut self, jobs: &OwnerLane) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        shared.store.overflow_queues().remove(app, jobs).await?;
        self.dispatcher.lane_progress.end_overflow(jobs);
        self.counts.lock().remove_queue(jobs);
        self.gauge.show(self.consumers.len());
        tracing::info!(%app, %jobs, "an overflow queue is empty and was deleted");
        Ok(())
    }
}
