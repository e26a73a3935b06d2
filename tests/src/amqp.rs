//! A user who speaks AMQP only: publishes to exchange `jobs`, reads replies and dead letters.

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use serde_json::Value;
use warmq_cluster::Cluster;

use crate::stage::SOON;

/// The pseudo-queue of RabbitMQ's direct reply-to.
pub const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A connection of a submitter.
pub struct AmqpUser {
    channel: Channel,
    exchange: String,
    _connection: Connection,
}

impl AmqpUser {
    /// Connects to the cluster's RabbitMQ.
    pub async fn connect(cluster: &Cluster) -> Self {
        let connection = warmq_common::amqp::connect(cluster.amqp_url(), "warmq-tests")
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self {
            channel,
            exchange: cluster.topology().jobs_exchange(),
            _connection: connection,
        }
    }

    /// Publishes a submission to `app`.
    pub async fn submit(&self, app: &str, body: &str, properties: BasicProperties) {
        let published = self.channel.basic_publish(
            self.exchange.as_str().into(),
            app.into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        );
        published.await.unwrap().await.unwrap();
    }

    /// Consumes a queue; [`DIRECT_REPLY_TO`] must be consumed before a submission names it.
    pub async fn consume(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions {
            no_ack: queue == DIRECT_REPLY_TO,
            ..BasicConsumeOptions::default()
        };
        self.channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
            .unwrap()
    }

    /// Declares a queue that lives as long as this connection.
    pub async fn own_queue(&self, name: &str) {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .unwrap();
    }
}

/// Properties with a hint.
pub fn with_hint(hint: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-runner-hint".into(), AMQPValue::LongString(hint.into()));
    BasicProperties::default().with_headers(headers)
}

/// The next message, acknowledged; the test fails when none comes.
pub async fn next(consumer: &mut Consumer) -> Delivery {
    let delivery = tokio::time::timeout(SOON, consumer.next())
        .await
        .expect("no message came")
        .unwrap()
        .unwrap();
    // Direct replies need no acknowledgement, and refuse it.
    if consumer.queue().as_str() != DIRECT_REPLY_TO {
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    delivery
}

/// A message's body as JSON.
pub fn json(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.data).unwrap()
}

/// A header's text; empty when there is none.
pub fn header(delivery: &Delivery, name: &str) -> String {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// What RabbitMQ says on a connection that publishes while a memory or disk alarm is set: `connection.blocked`.
pub fn connection_blocked(reason: &str) -> Vec<u8> {
    let length = u8::try_from(reason.len()).unwrap();
    connection_method(60, &[&[length], reason.as_bytes()].concat())
}

/// What it says once the alarm is over: `connection.unblocked`.
pub fn connection_unblocked() -> Vec<u8> {
    connection_method(61, &[])
}

/// An AMQP method frame on channel 0: type, channel, length, class and method, arguments, end.
fn connection_method(method: u8, arguments: &[u8]) -> Vec<u8> {
    let payload = [&[0, 10, 0, method], arguments].concat();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[1, 0, 0], &length[..], &payload, &[0xCE]].concat()
}
