//! What a runner consumes: its own queue always, the shared one only while it is idle.
//!
//! Prefetch counts per consumer, so a runner with two consumers can be given two jobs at once. The shared consumer is
//! therefore cancelled at the first delivery, and whatever came beside it goes back.

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions};
use lapin::{Channel, Connection, Consumer};
use warmq_broker::advice::explained;
use warmq_broker::consumer;

/// Where a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The runner's own queue: the dispatcher claimed it for this job.
    Own,
    /// The queue for whoever is free first.
    Shared,
}

/// A job's message in the runner's hands, until it is acknowledged or given back.
#[derive(Debug)]
pub struct JobDelivery {
    /// Where it came from.
    pub source: Source,
    delivery: Delivery,
}

impl JobDelivery {
    /// The message.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// The job is in safe hands: the broker may forget it. A failure means that the connection is gone, and the
    /// message will be delivered again.
    pub async fn ack(self) {
        if let Err(error) = self.delivery.acker.ack(BasicAckOptions::default()).await {
            tracing::warn!(%error, "an acknowledgement was lost; the job's message will come again");
        }
    }

    /// The job is for somebody else. From the shared queue it goes to the next idle runner; from the runner's own queue
    /// to the dispatcher (dead-lettered, since nobody else reads that queue). A failure means that the connection is
    /// gone, and the broker does the same by itself.
    pub async fn nack(self) {
        let options = BasicNackOptions {
            requeue: self.source == Source::Shared,
            ..BasicNackOptions::default()
        };
        if let Err(error) = self.delivery.acker.nack(options).await {
            tracing::debug!(%error, "could not give a job back; the broker will");
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
    /// Tags are not used twice: the late end of one consumer must not end the next.
    attached: u64,
}

/// The connection broke, or a queue is gone.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The connection or its channel broke.
    #[error("{}", explained(.0))]
    Connection(#[from] lapin::Error),
    /// The broker ended the consumer: its queue was deleted.
    #[error("the {0:?} queue is gone")]
    QueueDeleted(Source),
}

impl Consumers {
    /// Consumes `own_queue`; the shared one once [`Consumers::attach_shared`] is called.
    ///
    /// # Errors
    /// The connection broke.
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

    /// Takes jobs from the shared queue too.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn attach_shared(&mut self) -> Result<(), ConsumeError> {
        if self.shared.is_none() {
            self.attached += 1;
            let tag = format!("shared-{}", self.attached);
            self.shared =
                Some(consumer::consume(&self.shared_channel, &self.shared_queue, &tag).await?);
        }
        Ok(())
    }

    /// The next delivery. Nothing is lost when the call is dropped half-way.
    ///
    /// # Errors
    /// The connection broke, or a queue is gone.
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

    /// The next delivery on the own queue alone.
    ///
    /// # Errors
    /// The connection broke, or the queue is gone.
    pub async fn next_own(&mut self) -> Result<JobDelivery, ConsumeError> {
        received(Source::Own, self.own.next().await)
    }

    /// After the first delivery: detaches from the shared queue and keeps one job, the own queue's if both came.
    ///
    /// # Errors
    /// The connection broke; all deliveries come again.
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

    /// Ends the shared consumer. What it had been given meanwhile goes back.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn detach_shared(&mut self) -> Result<(), ConsumeError> {
        let Some(mut shared) = self.shared.take() else {
            return Ok(());
        };
        self.shared_channel
            .basic_cancel(shared.tag(), BasicCancelOptions::default())
            .await?;
        // The broker sends nothing after its answer, so the stream ends.
        while let Some(delivery) = shared.next().await {
            let delivery = received(Source::Shared, Some(delivery))?;
            delivery.nack().await;
        }
        Ok(())
    }

    /// Ends both consumers. What they had been given goes back.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn end(mut self) -> Result<(), ConsumeError> {
        self.detach_shared().await?;
        self.own_channel
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
    Ok(JobDelivery { source, delivery })
}
