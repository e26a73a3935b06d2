//! A runner's consumers: its own queue always; the shared queue only while it is idle, and only
//! while the leader does not consume it.
//!
//! Prefetch counts per consumer, so a runner with two consumers can receive two jobs at once. The
//! shared consumer is therefore cancelled at the first delivery, and further deliveries are
//! returned. That costs a round trip per job, and the queue's process more, the more runners
//! consume it.
//!
//! The channel is that of all runners of the process and outlives these consumers. Therefore a
//! delivery is returned when it is dropped: otherwise its message would stay unacknowledged.

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use lapin::{Acker, Channel, Consumer};
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

/// A job's message until it is acknowledged or returned. Returned when dropped.
#[derive(Debug)]
pub struct JobDelivery {
    /// The queue.
    pub source: Source,
    body: Vec<u8>,
    /// `None` once it is acknowledged or returned.
    acker: Option<Acker>,
}

impl JobDelivery {
    /// Returns the message.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Acknowledges the message. A failure means that the connection is lost; the message will be
    /// redelivered.
    pub async fn ack(mut self) {
        if let Some(acker) = self.acker.take()
            && let Err(error) = acknowledgement::ack(&acker).await
        {
            tracing::warn!(%error, "an ack was lost: the job's message will be redelivered");
        }
    }

    /// Returns the message: from the shared queue to the next idle runner, from the runner's own
    /// queue to the dispatcher (dead-lettered, since that queue has no other consumer). If the
    /// connection is lost the broker does the same.
    pub async fn nack(mut self) {
        if let Some(acker) = self.acker.take() {
            nack(acker, self.source).await;
        }
    }
}

impl Drop for JobDelivery {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(nack(acker, self.source));
        }
    }
}

async fn nack(acker: Acker, source: Source) {
    let requeue = source == Source::Shared;
    if let Err(error) = acknowledgement::nack(&acker, requeue).await {
        tracing::debug!(%error, "could not nack a message: the broker requeues it");
    }
}

/// The two consumers of one incarnation.
pub struct Consumers {
    own: Consumer,
    shared: Option<Consumer>,
    channel: Channel,
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
        channel: Channel,
        own_queue: &str,
        shared_queue: String,
    ) -> lapin::Result<Self> {
        Ok(Self {
            own: consumer::consume(&channel, own_queue, own_queue).await?,
            shared: None,
            channel,
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
            let tag = format!("{}.shared-{}", self.own.tag(), self.attached);
            self.shared = Some(consumer::consume(&self.channel, &self.shared_queue, &tag).await?);
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
        self.channel
            .basic_cancel(shared.tag(), BasicCancelOptions::default())
            .await?;
        // The broker delivers nothing after its answer, so the stream ends.
        while let Some(delivery) = shared.next().await {
            let delivery = received(Source::Shared, Some(delivery))?;
            delivery.nack().await;
        }
        Ok(())
    }

    /// Cancels both consumers and returns their deliveries.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn end(mut self) -> Result<(), ConsumeError> {
        self.detach_shared().await?;
        self.channel
            .basic_cancel(self.own.tag(), BasicCancelOptions::default())
            .await?;
        while let Some(delivery) = self.own.next().await {
            let delivery = received(Source::Own, Some(delivery))?;
            delivery.nack().await;
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
    Ok(JobDelivery {
        source,
        body: delivery.data,
        acker: Some(delivery.acker),
    })
}
