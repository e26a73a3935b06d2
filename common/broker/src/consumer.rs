//! Consumers. Prefetch counts per consumer, so several can have one channel; an error closes it for
//! all of them.

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};

/// Priority of a consumer that precedes others, whose priority is 0.
const PRIORITY: i32 = 10;

/// Opens a channel with at most `prefetch` unacknowledged messages per consumer.
pub async fn channel(connection: &Connection, prefetch: u16) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    limit(&channel, prefetch).await?;
    Ok(channel)
}

/// Limits the unacknowledged messages of each consumer of `channel` to `prefetch`.
pub async fn limit(channel: &Channel, prefetch: u16) -> lapin::Result<()> {
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
}

/// Consumes `queue` on `channel`; `tag` identifies the consumer in RabbitMQ's lists and for its
/// cancellation.
///
/// # Errors
/// The queue does not exist, or the connection broke.
pub async fn consume(channel: &Channel, queue: &str, tag: &str) -> lapin::Result<Consumer> {
    channel
        .basic_consume(
            queue.into(),
            tag.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// Consumes before all consumers without a priority: they receive what exceeds this one's prefetch.
///
/// # Errors
/// The queue does not exist, or the connection broke.
pub async fn consume_first(channel: &Channel, queue: &str, tag: &str) -> lapin::Result<Consumer> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongInt(PRIORITY));
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(queue.into(), tag.into(), options, arguments)
        .await
}

/// Consumes without acknowledgements: messages that do not arrive are lost.
///
/// # Errors
/// The queue does not exist, or the connection broke.
pub async fn follow(channel: &Channel, queue: &str, tag: &str) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(queue.into(), tag.into(), options, FieldTable::default())
        .await
}
