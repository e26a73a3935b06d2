//! A client that speaks AMQP only: publishes to exchange `jobs`, reads replies and dead letters.

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer, PublisherConfirm};
use serde_json::Value;
use warmq_broker::Topology;
use warmq_testkit::Testbed;
use warmq_types::ids::JobId;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use crate::system::TIMEOUT;

/// The pseudo-queue of RabbitMQ's direct reply-to.
pub const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A connection of a submitter.
pub struct AmqpClient {
    channel: Channel,
    topology: Topology,
    _connection: Connection,
}

impl AmqpClient {
    /// Connects to the testbed's RabbitMQ.
    pub async fn connect(testbed: &Testbed) -> Self {
        Self::connect_at(testbed, testbed.amqp_url()).await
    }

    /// Connects to the testbed's RabbitMQ by another address.
    pub async fn connect_at(testbed: &Testbed, url: &ServerUrl) -> Self {
        let connection = warmq_broker::connect(url, "warmq-tests").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self {
            channel,
            topology: testbed.topology().clone(),
            _connection: connection,
        }
    }

    /// Publishes a submission to `app`.
    pub async fn submit(&self, app: &str, body: impl AsRef<[u8]>, properties: BasicProperties) {
        let published = self.publish(app, body, properties).await;
        published.await.unwrap();
    }

    /// As [`AmqpClient::submit`], without waiting for the confirm.
    pub async fn publish(
        &self,
        app: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
    ) -> PublisherConfirm {
        let published = self.channel.basic_publish(
            self.topology.jobs_exchange().into(),
            app.into(),
            BasicPublishOptions::default(),
            body.as_ref(),
            properties,
        );
        published.await.unwrap()
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

    /// Subscribes to the events of ended jobs: one or more each.
    pub async fn end_events(&self) -> Consumer {
        let queue = format!("{}.ends", self.topology.jobs_exchange());
        self.own_queue(&queue).await;
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            self.topology.events_exchange().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
        self.consume(&queue).await
    }

    /// Returns whether a queue is empty; an exclusive one must belong to this connection.
    pub async fn is_empty(&self, queue: &str) -> bool {
        Topology::depth(&self.channel, queue).await.unwrap() == 0
    }

    /// Declares a queue that exists as long as this connection.
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

/// Properties of a persistent job with this id, whose outcome is sent to `reply_to`.
pub fn with_id(id: JobId, reply_to: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id.to_string().into())
        .with_reply_to(reply_to.into())
        .with_correlation_id(id.to_string().into())
}

/// Properties with a hint.
pub fn with_hint(hint: &str) -> BasicProperties {
    with_header("x-runner-hint", hint)
}

/// Properties with one header.
pub fn with_header(name: &str, text: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), AMQPValue::LongString(text.into()));
    BasicProperties::default().with_headers(headers)
}

/// Returns the next message, acknowledged; fails the test if none arrives.
pub async fn next(consumer: &mut Consumer) -> Delivery {
    let delivery = tokio::time::timeout(TIMEOUT, consumer.next())
        .await
        .expect("no message came")
        .unwrap()
        .unwrap();
    // Direct replies need no ack, and refuse it.
    if consumer.queue().as_str() != DIRECT_REPLY_TO {
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    delivery
}

/// Returns the next event of an ended job.
pub async fn next_end_event(ends: &mut Consumer) -> (JobId, JobState) {
    let event = JobEvent::decode(&next(ends).await.data).unwrap();
    (event.job_id, event.state)
}

/// A message's body as JSON.
pub fn json(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.data).unwrap()
}

/// Returns a header's text; empty if there is none.
pub fn header(delivery: &Delivery, name: &str) -> String {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The `connection.blocked` that RabbitMQ sends to publishers while a memory or disk alarm is set.
pub fn connection_blocked(reason: &str) -> Vec<u8> {
    let length = u8::try_from(reason.len()).unwrap();
    connection_method(60, &[&[length], reason.as_bytes()].concat())
}

/// The `connection.unblocked` that RabbitMQ sends after the alarm.
pub fn connection_unblocked() -> Vec<u8> {
    connection_method(61, &[])
}

/// An AMQP method frame on channel 0: type, channel, length, class and method, arguments, end.
fn connection_method(method: u8, arguments: &[u8]) -> Vec<u8> {
    let payload = [&[0, 10, 0, method], arguments].concat();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[1, 0, 0], &length[..], &payload, &[0xCE]].concat()
}
