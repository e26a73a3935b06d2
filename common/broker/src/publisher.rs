//! Confirmed publishes: persistent unless the message is [transient](Message::transient), mandatory
//! unless announced.
//!
//! Each mandatory message in flight has a channel of its own: lapin attaches a returned message to
//! whichever confirm of its channel follows, so on a shared channel the wrong publisher would see
//! the return. Small messages that are not mandatory share one, which costs RabbitMQ less.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ErrorKind, Event};
use tokio::sync::{Mutex, Semaphore, watch};
use warmq_types::server_url::ServerUrl;

use super::connection;

/// Timeout of a confirm. A memory or disk alarm delays confirms for as long as it lasts.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of messages in flight, each on a channel of its own; RabbitMQ allows 2047
/// channels per connection.
const IN_FLIGHT: usize = 512;

/// Maximum size of a message on the shared channel, bytes. RabbitMQ closes the channel of a message
/// that exceeds its limit, and with it the messages of others.
const MAX_SHARED_BYTES: usize = 16 << 10;

/// Delivery mode of a message that the broker keeps in memory.
const TRANSIENT: u8 = 1;

/// Delivery mode of a message that the broker stores before it confirms it.
const PERSISTENT: u8 = 2;

/// Header of a job that a runner returned.
const RETURNED_HEADER: &str = "x-warmq-returned";

/// Returns whether a job's message was returned: by a runner, or by the broker from a runner's
/// queue or a retry tier.
pub fn has_returned(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| {
        let headers = headers.inner();
        headers.contains_key(RETURNED_HEADER) || headers.contains_key("x-death")
    })
}

/// Why a message is not confirmed. Except after [`PublishError::Returned`] it may have arrived
/// nevertheless.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] connection::Error),
    /// No queue is bound for this routing key.
    #[error("no queue takes messages for '{routing_key}' of exchange '{exchange}'")]
    Returned {
        /// The exchange; empty for the default exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker sent a nack.
    #[error("RabbitMQ refused the message")]
    Refused,
    /// A memory or disk alarm blocks publishes.
    #[error("RabbitMQ takes no messages now: {reason}")]
    Blocked {
        /// The broker's text.
        reason: String,
    },
    /// No confirm in time: the broker is blocked (a memory or disk alarm?) or gone.
    #[error("RabbitMQ did not confirm within {} s: is a memory or disk alarm set?", CONFIRM_TIMEOUT.as_secs())]
    Timeout,
    /// The broker never accepts this message, usually because it exceeds `max_message_size`.
    #[error("RabbitMQ does not take the message: {reason}")]
    Unacceptable {
        /// The broker's text.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to RabbitMQ broke: {0}")]
    Lapin(#[from] lapin::Error),
}

impl PublishError {
    /// Returns whether retrying is useless: settings must change, here or in the broker.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_final())
    }

    /// Returns whether the broker refuses this message whenever it is published.
    pub fn is_unacceptable(&self) -> bool {
        matches!(self, Self::Unacceptable { .. })
    }

    /// Returns the problem without the server's address, for users without access to it.
    pub fn summary(&self) -> String {
        match self {
            Self::Connect(error) => error.summary(),
            Self::Lapin(_) => "the connection to RabbitMQ broke".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Classifies lapin's error. RabbitMQ closes the channel of a message that exceeds its limit.
fn refusal(error: lapin::Error) -> PublishError {
    let failed = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
    match error.kind() {
        ErrorKind::ProtocolError(refused) if *refused.kind() == failed => {
            PublishError::Unacceptable {
                reason: refused.get_message().to_string(),
            }
        }
        _ => error.into(),
    }
}

/// A message to publish. Its properties are always new, so nothing (`x-death` above all) is carried
/// over by accident.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Body.
    pub body: Vec<u8>,
    /// Id, for deduplication by the receiver.
    pub message_id: Option<String>,
    /// Correlation id of a reply.
    pub correlation_id: Option<String>,
    /// Headers with text values.
    pub headers: Vec<(String, String)>,
    /// Whether the broker keeps it in memory only, and loses it when it restarts.
    pub transient: bool,
}

impl Message {
    /// Returns a message without id and headers.
    pub fn new(body: Vec<u8>) -> Self {
        Self {
            body,
            ..Self::default()
        }
    }

    /// Marks the message of a job that a runner returned.
    #[must_use]
    pub fn returned(mut self) -> Self {
        self.headers
            .push((RETURNED_HEADER.to_owned(), "1".to_owned()));
        self
    }

    pub(super) fn properties(&self) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(match self.transient {
                true => TRANSIENT,
                false => PERSISTENT,
            })
            .with_content_type("application/json".into());
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(id.as_str().into());
        }
        if !self.headers.is_empty() {
            let mut table = FieldTable::default();
            for (name, value) in &self.headers {
                table.insert(
                    ShortString::from(name.as_str()),
                    AMQPValue::LongString(value.as_str().into()),
                );
            }
            properties = properties.with_headers(table);
        }
        properties
    }
}

/// A cheap handle to one publishing connection, opened at the first use and reopened after a
/// failure.
#[derive(Clone)]
pub struct Publisher {
    url: ServerUrl,
    name: Arc<str>,
    slot: Arc<Mutex<Slot>>,
}

/// The connection, and the last failed attempt to open it.
#[derive(Default)]
struct Slot {
    link: Option<Arc<Link>>,
    failed: Option<(Instant, PublishError)>,
}

struct Link {
    /// Channel for declarations.
    channel: Channel,
    connection: Connection,
    /// Channels in confirm mode without messages in flight.
    quiet: std::sync::Mutex<Vec<Channel>>,
    turns: Semaphore,
    /// Channel in confirm mode that messages share which are not mandatory.
    shared: Mutex<Option<Channel>>,
    /// Reason while the broker blocks publishes on this connection.
    blocked: watch::Receiver<Option<String>>,
}

impl Link {
    async fn open(url: &ServerUrl, name: &str) -> Result<Self, PublishError> {
        let connection = connection::connect(url, name).await?;
        let channel = tokio::time::timeout(CONFIRM_TIMEOUT, connection.create_channel()).await;
        Ok(Self {
            channel: channel.map_err(|_| PublishError::Timeout)??,
            quiet: std::sync::Mutex::default(),
            turns: Semaphore::new(IN_FLIGHT),
            shared: Mutex::default(),
            blocked: watch_alarms(&connection),
            connection,
        })
    }

    /// Publishes and waits for the confirm. A channel whose confirm is abandoned is dropped, with
    /// whatever may still arrive on it.
    async fn confirmed(
        &self,
        exchange: &str,
        routing_key: &str,
        message: &Message,
        mandatory: bool,
    ) -> lapin::Result<Confirmation> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        let publish = async |channel: &Channel| {
            let options = BasicPublishOptions {
                mandatory,
                ..BasicPublishOptions::default()
            };
            let published = channel.basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                &message.body,
                message.properties(),
            );
            published.await?.await
        };
        if !mandatory && message.body.len() <= MAX_SHARED_BYTES {
            return publish(&self.shared().await?).await;
        }
        let quiet = self.quiet().pop();
        let channel = match quiet {
            Some(channel) => channel,
            None => self.confirming().await?,
        };
        let confirmation = publish(&channel).await?;
        self.quiet().push(channel);
        Ok(confirmation)
    }

    /// Opens a channel in confirm mode.
    async fn confirming(&self) -> lapin::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await?;
        Ok(channel)
    }

    /// Returns the shared channel; opens it at the first use and once it is closed.
    async fn shared(&self) -> lapin::Result<Channel> {
        let mut shared = self.shared.lock().await;
        if let Some(open) = shared.as_ref()
            && open.status().connected()
        {
            return Ok(open.clone());
        }
        Ok(shared.insert(self.confirming().await?).clone())
    }

    fn quiet(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Returns a publisher that appears as `name` in RabbitMQ's lists. It connects at the first
    /// use.
    pub fn new(url: ServerUrl, name: &str) -> Self {
        Self {
            url,
            name: name.into(),
            slot: Arc::default(),
        }
    }

    /// Returns an open channel for declarations before the first publish.
    ///
    /// # Errors
    /// No connection can be opened, or the broker blocks it.
    pub async fn channel(&self) -> Result<Channel, PublishError> {
        let link = self.link().await?;
        let blocked = link.blocked.borrow().clone();
        match blocked {
            Some(reason) => Err(PublishError::Blocked { reason }),
            None => Ok(link.channel.clone()),
        }
    }

    /// Returns the open connection, or opens one. Callers that wait for the same attempt share its
    /// failure: with a broker that accepts connections and does not answer, each would otherwise
    /// wait for all the others' attempts.
    async fn link(&self) -> Result<Arc<Link>, PublishError> {
        let called = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(open) = &slot.link
            && open.channel.status().connected()
        {
            return Ok(Arc::clone(open));
        }
        if let Some((failed, error)) = &slot.failed
            && *failed > called
        {
            return Err(error.clone());
        }
        match Link::open(&self.url, &self.name).await {
            Ok(open) => Ok(Arc::clone(slot.link.insert(Arc::new(open)))),
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Publishes and waits until the broker has stored the message in a queue.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message: &Message,
    ) -> Result<(), PublishError> {
        self.send(exchange, routing_key, message, true).await
    }

    /// Publishes without requiring a queue (events, replies).
    ///
    /// # Errors
    /// See [`PublishError`]; never `Returned`.
    pub async fn announce(
        &self,
        exchange: &str,
        routing_key: &str,
        message: &Message,
    ) -> Result<(), PublishError> {
        self.send(exchange, routing_key, message, false).await
    }

    async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        message: &Message,
        mandatory: bool,
    ) -> Result<(), PublishError> {
        let publisher = self.clone();
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
        let message = message.clone();
        // A task of its own always makes progress. A caller that stops polling this future would
        // otherwise keep the lock or permit that it holds, and block all other publishers.
        let sending = tokio::spawn(async move {
            let sent = publisher.deliver(&exchange, &routing_key, &message, mandatory);
            sent.await
        });
        sending.await.unwrap_or(Err(PublishError::Timeout))
    }

    async fn deliver(
        &self,
        exchange: &str,
        routing_key: &str,
        message: &Message,
        mandatory: bool,
    ) -> Result<(), PublishError> {
        let link = self.link().await?;
        let confirmed = link.confirmed(exchange, routing_key, message, mandatory);
        let mut blocked = link.blocked.clone();
        // The broker reports the alarm at the first message that it does not accept; that message
        // would otherwise wait for its confirm.
        let alarm = async {
            let reason = blocked.wait_for(Option::is_some).await.ok();
            match reason.and_then(|reason| reason.clone()) {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        let confirmed = tokio::select! {
            biased;
            reason = alarm => return Err(PublishError::Blocked { reason }),
            confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, confirmed) => confirmed,
        };
        match confirmed {
            Err(_) => Err(PublishError::Timeout),
            Ok(Err(error)) => Err(refusal(error)),
            // A returned message is acknowledged all the same: check the message, not the kind.
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => {
                Err(PublishError::Returned {
                    exchange: exchange.to_owned(),
                    routing_key: routing_key.to_owned(),
                })
            }
            Ok(Ok(Confirmation::Nack(None) | Confirmation::NotRequested)) => {
                Err(PublishError::Refused)
            }
        }
    }
}

/// Follows the broker's alarms for as long as the receiver lives.
fn watch_alarms(connection: &Connection) -> watch::Receiver<Option<String>> {
    let events = connection.events_listener();
    let (alarm, blocked) = watch::channel(None);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                () = alarm.closed() => return,
                event = events.next() => event,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "RabbitMQ takes no messages");
                    alarm.send_replace(Some(reason));
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes messages again");
                    alarm.send_replace(None);
                }
                Some(_) => {}
                None => return,
            }
        }
    });
    blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_that_wait_for_one_connection_attempt_share_its_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}/%2f", listener.local_addr().unwrap());
        let publisher = Publisher::new(url.parse().unwrap(), "test");
        // The listener hangs up once all publishes wait: a second attempt would be a second
        // connection.
        let attempts = async {
            let (first, _) = listener.accept().await.unwrap();
            tokio::task::yield_now().await;
            drop(first);
            listener.accept().await.unwrap();
        };
        let message = Message::new(Vec::new());
        let publishes = (0..8).map(|_| publisher.publish("", "queue", &message));
        tokio::select! {
            () = attempts => panic!("a waiting publish made an attempt of its own"),
            sent = futures::future::join_all(publishes) => {
                assert!(sent.iter().all(|sent| matches!(sent, Err(PublishError::Connect(_)))));
            }
        }
    }
}
