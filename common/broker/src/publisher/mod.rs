//! Confirmed publishes: persistent unless the message is [transient](Message::transient), mandatory
//! unless announced.
//!
//! | module | what it does |
//! | --- | --- |
//! | this one | connects, and bounds the messages in flight and their time |
//! | `message`, `publish` | a message; a message with its destination |
//! | `shared_channel` | the channel of small messages |
//! | `outcomes` | which of the messages in flight arrived, and which were returned |
//! | `error` | why a message is not confirmed |

mod error;
mod message;
mod outcomes;
mod publish;
mod shared_channel;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Mutex, Semaphore, watch};
use warmq_types::server_url::ServerUrl;

pub use error::PublishError;
pub use message::{Message, has_returned};

use super::connection;
use error::refusal;
use outcomes::Outcome;
use publish::Publish;
use shared_channel::SharedChannel;

/// Timeout of a confirm. A memory or disk alarm delays confirms for as long as it lasts.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of messages in flight. Large ones have a channel each; RabbitMQ allows 2047 per
/// connection.
const IN_FLIGHT: usize = 512;

/// Maximum size of a message on the shared channel, bytes. RabbitMQ closes the channel of a message
/// that exceeds its limit, and with it the messages of others.
const MAX_SHARED_BYTES: usize = 16 << 10;

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
    /// Channels in confirm mode without a message in flight, for large messages.
    quiet: std::sync::Mutex<Vec<Channel>>,
    turns: Semaphore,
    /// The channel of small messages.
    shared: Mutex<Option<SharedChannel>>,
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

    /// Publishes and waits for the confirm. A large message's channel whose confirm is abandoned is
    /// dropped, with whatever may still arrive on it.
    async fn publish(&self, publish: Arc<Publish>) -> Result<(), PublishError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        let outcome = match publish.message.body.len() <= MAX_SHARED_BYTES {
            true => {
                let shared = self.shared().await?;
                let outcome = shared.publish(Arc::clone(&publish)).await;
                outcome.ok_or(PublishError::Timeout)?
            }
            false => self.publish_alone(&publish).await,
        };
        publish.result(outcome.map_err(refusal)?)
    }

    /// Publishes on a channel of its own.
    async fn publish_alone(&self, publish: &Publish) -> lapin::Result<Outcome> {
        let quiet = self.quiet().pop();
        let channel = match quiet {
            Some(channel) => channel,
            None => self.confirming().await?,
        };
        let outcome = publish.on(&channel).await.outcome()?;
        self.quiet().push(channel);
        Ok(outcome)
    }

    /// Opens a channel in confirm mode.
    async fn confirming(&self) -> lapin::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await?;
        Ok(channel)
    }

    /// Returns the shared channel; opens it at the first use and once it is closed.
    async fn shared(&self) -> lapin::Result<SharedChannel> {
        let mut shared = self.shared.lock().await;
        if let Some(open) = shared.as_ref().filter(|open| open.is_open()) {
            return Ok(open.clone());
        }
        let opened = SharedChannel::start(self.confirming().await?);
        Ok(shared.insert(opened).clone())
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
        let publish = Publish {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            message: message.clone(),
            mandatory,
        };
        // A task of its own always makes progress. A caller that stops polling this future would
        // otherwise keep the lock or permit that it holds, and block all other publishers.
        let sending = tokio::spawn(async move { publisher.deliver(publish).await });
        sending.await.unwrap_or(Err(PublishError::Timeout))
    }

    async fn deliver(&self, publish: Publish) -> Result<(), PublishError> {
        let link = self.link().await?;
        let published = link.publish(Arc::new(publish));
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
        tokio::select! {
            biased;
            reason = alarm => Err(PublishError::Blocked { reason }),
            published = tokio::time::timeout(CONFIRM_TIMEOUT, published) => {
                published.unwrap_or(Err(PublishError::Timeout))
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
