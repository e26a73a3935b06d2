//! Arguments of exchanges and queues.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, LongString};
use warmq_types::queue_type::QueueType;

/// RabbitMQ 3.10 loses nacked messages at -1, and 4.0 dead-letters after 20: attempts are counted
/// in Redis instead.
const NO_DELIVERY_LIMIT: i32 = 1_000_000;

/// Time that an event waits without a consumer: the default retention of results. Unbounded, these
/// queues would fill the broker's disk in a deployment without that role.
const EVENT_TTL: Duration = Duration::from_secs(24 * 3600);

/// Arguments of a declaration.
pub(super) struct Arguments(FieldTable);

impl Arguments {
    pub(super) fn new() -> Self {
        Self(FieldTable::default())
    }

    /// Returns the arguments of a queue. Its type is explicit: the default depends on the virtual
    /// host, and an accidental quorum queue drops a message at its 20th delivery (RabbitMQ 4).
    pub(super) fn of(queue_type: QueueType) -> Self {
        Self::new().text("x-queue-type", &queue_type.to_string())
    }

    /// Returns the arguments of a queue that keeps its messages.
    pub(super) fn durable(queue_type: QueueType) -> Self {
        let arguments = Self::of(queue_type);
        match queue_type {
            QueueType::Classic => arguments,
            QueueType::Quorum => arguments.int("x-delivery-limit", NO_DELIVERY_LIMIT),
        }
    }

    /// Returns the arguments of a queue of events.
    pub(super) fn of_events(queue_type: QueueType) -> Self {
        Self::durable(queue_type).int("x-message-ttl", millis(EVENT_TTL))
    }

    /// Returns the arguments of a queue whose messages leave by its dead-letter exchange. A quorum
    /// queue then keeps each message until the next queue has confirmed it, instead of losing those
    /// in flight at a change of leader. RabbitMQ offers that to queues that reject overflow.
    pub(super) fn dead_lettering(queue_type: QueueType) -> Self {
        let arguments = Self::durable(queue_type);
        match queue_type {
            QueueType::Classic => arguments,
            QueueType::Quorum => arguments
                .text("x-dead-letter-strategy", "at-least-once")
                .text("x-overflow", "reject-publish"),
        }
    }

    pub(super) fn into_table(self) -> FieldTable {
        self.0
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        let value = AMQPValue::LongString(LongString::from(value));
        self.0.insert(name.into(), value);
        self
    }

    pub(super) fn int(mut self, name: &str, value: i32) -> Self {
        self.0.insert(name.into(), AMQPValue::LongInt(value));
        self
    }

    pub(super) fn flag(mut self, name: &str) -> Self {
        self.0.insert(name.into(), AMQPValue::Boolean(true));
        self
    }
}

/// Converts to milliseconds as RabbitMQ takes them, at most 24 days.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
