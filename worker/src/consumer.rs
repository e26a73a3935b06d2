//! A runner's consumers: its own queue always; the shared queue only while it is idle, and only
//! while the leader does not consume it.
//!
//! Prefetch counts per consumer, so a runner with two consumers can receive two jobs at once. The
//! shared consumer is therefore cancelled at the first delivery, and further deliveries are
//! returned. That costs a round trip per job, and the queue's process more, the more runners
//! consume it.

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use lapin::{Channel, Connection, Consumer};
use warmq_broker::advice::explained;
use warmq_broker::{acknowledgement, consumer};

/// The queue of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The runner's own queue: the dispatcher claimed the runner for this job.
    Own,
    /// The app's shared queue.
    Shared,
}

/// A job's message until it is acknowledged or returned.
#[derive(Debug)]
pub struct JobDelivery {
    /// The queue.
    pub source: Source,
    delivery: Delivery,
}

impl JobDelivery {
    /// Returns the message.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// Acknowledges the message. A failure means that the connection is lost; the message will be
    /// redelivered.
    pub async fn ack(self) {
        if let Err(error) = acknowledgement::ack(&self.delivery.acker).await {
            tracing::warn!(%error, "an ack was lost: the job's message will be redelivered");
        }
    }

    /// Returns the message: from the shared queue to the next idle runner, from the runner's own
    /// queue to the dispatcher (dead-lettered, since that queue has no other consumer). If the
    /// connection is lost the broker does the same.
    pub async fn nack(self) {
        let requeue = self.source == Source::Shared;
        if let Err(error) = acknowledgement::nack(&self.delivery.acker, requeue).await {
            tracing::debug!(%error, "could not nack a message: the broker requeues it");
        }
    }
}

/// The two consumers of one incarnation.
pub struct Consumers {
    own: Consumer,
    own_channel: Channel,
    shared: Option<Consumer>,
    shared_channel: Channel,
    shared_queue: String,
    /// Number of the shared consumer, part of its tag. Tags are unique, so that the late end of one
    /// consumer does not end the next.
    attached: u64,
}

/// The connection is lost, or a queue was deleted.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The connection or its channel failed.
    #[error("{}", explained(.0))]
    Connection(#[from] lapin::Error),
    /// The broker cancelled the consumer: its queue was deleted.
    #[error("the {0:?} queue was deleted")]
    QueueDeleted(Source),
}

impl Consumers {
    /// Consumes `own_queue`, and the shared queue once [`Consumers::set_shared`] asks for it.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn new(
        connection: &Connection,
        own_queue: &str,
        shared_queue: String,
    ) -> lapin::Result<Self> {
        let own_channel = consumer::channel(connection, 1).await?;
        Ok(Self {
            own: consumer::consume(&own_channel, own_queue, "own").await?,
            own_channel,
            shared: None,
            shared_channel: consumer::channel(connection, 1).await?,
            shared_queue,
            attached: 0,
        })
    }

    /// Starts or stops to consume the shared queue.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn set_shared(&mut self, consumes: bool) -> Result<(), ConsumeError> {
        if !consumes {
            return self.detach_shared().await;
        }
        if self.shared.is_none() {
            self.attached += 1;
            let tag = format!("shared-{}", self.attached);
            self.shared =
                Some(consumer::consume(&self.shared_channel, &self.shared_queue, &tag).await?);
        }
        Ok(())
    }

    /// Returns the next delivery. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost, or a queue was deleted.
    pub async fn next(&mut self) -> Result<JobDelivery, ConsumeError> {
        let Some(shared) = &mut self.shared else {
            return received(Source::Own, self.own.next().await);
        };
        tokio::select! {
            biased;
            delivery = self.own.next() => received(Source::Own, delivery),
            delivery = shared.next() => received(Source::Shared, delivery),
        }
    }

    /// Returns the next delivery of the own queue.
    ///
    /// # Errors
    /// The connection is lost, or the queue was deleted.
    pub async fn next_own(&mut self) -> Result<JobDelivery, ConsumeError> {
        received(Source::Own, self.own.next().await)
    }

    /// Detaches from the shared queue after the first delivery and keeps one job: the own queue's,
    /// if both delivered one.
    ///
    /// # Errors
    /// The connection is lost; all deliveries are redelivered.
    pub async fn keep_one(&mut self, first: JobDelivery) -> Result<JobDelivery, ConsumeError> {
        self.detach_shared().await?;
        if first.source == Source::Own {
            return Ok(first);
        }
        match self.own.next().now_or_never() {
            None => Ok(first),
            Some(own) => {
                first.nack().await;
                received(Source::Own, own)
            }
        }
    }

    /// Cancels the shared consumer and returns its further deliveries.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn detach_shared(&mut self) -> Result<(), ConsumeError> {
        let Some(mut shared) = self.shared.take() else {
            return Ok(());
        };
        self.shared_channel
            .basic_cancel(shared.tag(), BasicCancelOptions::default())
            .await?;
        // The broker delivers nothing after its answer, so the stream ends.
        while let Some(delivery) = shared.next().await {
            let delivery = received(Source::Shared, Some(delivery))?;
            delivery.nack().await;
        }
        Ok(())
    }

    /// Cancels both consumers, returns their deliveries, and closes the channels.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn end(mut self) -> Result<(), ConsumeError> {
        self.detach_shared().await?;
        self.own_channel
            .basic_cancel(self.own.tag(), BasicCancelOptions::default())
            .await?;
        while let Some(delivery) = self.own.next().await {
            let delivery = received(Source::Own, Some(delivery))?;
            delivery.nack().await;
        }
        for channel in [&self.own_channel, &self.shared_channel] {
            channel.close(200, "the runner leaves".into()).await?;
        }
        Ok(())
    }
}

fn received(
    source: Source,
    delivery: Option<lapin::Result<Delivery>>,
) -> Result<JobDelivery, ConsumeError> {
    let delivery = delivery.ok_or(ConsumeError::QueueDeleted(source))??;
    let id = delivery.properties.message_id().as_ref();
    tracing::debug!(job.id = id.map(|id| id.as_str()), ?source, "received a job");
    Ok(JobDelivery { source, delivery })
}
