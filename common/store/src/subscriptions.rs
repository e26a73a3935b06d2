//! Pub/sub subscriptions: one connection to Redis per process.
//!
//! Subscriptions name channels, not patterns: an ACL that allows `&warmq:*` refuses every other
//! pattern.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

use super::Error;

/// Maximum number of unread messages of a subscription; further ones are dropped.
const BACKLOG: usize = 4096;

/// Timeout of the connection and of each command.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A handle that opens subscriptions; clones share the connection, which lives as long as one of
/// them.
#[derive(Clone)]
pub(super) struct Subscriptions {
    client: redis::Client,
    link: Arc<Mutex<Weak<Link>>>,
}

/// Messages of one channel. Some are lost if the reader falls behind.
pub(super) struct Subscription {
    messages: mpsc::Receiver<String>,
    _link: Arc<Link>,
}

impl Subscription {
    /// Returns the next message; `None` once the connection broke.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.messages.recv().await
    }
}

struct Link {
    sink: Mutex<PubSubSink>,
    routes: Routes,
    reader: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Subscriptions {
    pub(super) fn new(client: redis::Client) -> Self {
        Self {
            client,
            link: Arc::default(),
        }
    }

    /// Subscribes to `channel`: messages published after this returns are received.
    ///
    /// # Errors
    /// Redis is unreachable, or its ACL forbids the channel.
    pub(super) async fn open(&self, channel: &str) -> Result<Subscription, Error> {
        let link = self.link().await?;
        let (sender, messages) = mpsc::channel(BACKLOG);
        // Under the sink's lock: no other task unsubscribes from the channel meanwhile.
        let mut sink = link.sink.lock().await;
        let unread = link.routes.add(channel, sender);
        let subscribed = within(async {
            if !unread.is_empty() {
                sink.unsubscribe(&unread).await?;
            }
            sink.subscribe(channel).await
        });
        if let Err(error) = subscribed.await {
            if error.is_io_error() || error.is_connection_dropped() {
                link.routes.close();
            }
            return Err(error.into());
        }
        drop(sink);
        Ok(Subscription {
            messages,
            _link: link,
        })
    }

    /// Returns the open connection, or connects.
    async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.upgrade()
            && link.routes.is_open()
        {
            return Ok(link);
        }
        let (sink, stream) = within(self.client.get_async_pubsub()).await?.split();
        let routes = Routes::default();
        let reader = tokio::spawn(read(stream, routes.clone())).abort_handle();
        let link = Arc::new(Link {
            sink: Mutex::new(sink),
            routes,
            reader,
        });
        *current = Arc::downgrade(&link);
        Ok(link)
    }
}

async fn within<T>(
    operation: impl Future<Output = redis::RedisResult<T>>,
) -> redis::RedisResult<T> {
    match tokio::time::timeout(TIMEOUT, operation).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Dispatches messages until the connection ends.
async fn read(mut stream: PubSubStream, routes: Routes) {
    while let Some(message) = stream.next().await {
        let text: String = message.get_payload().unwrap_or_default();
        routes.deliver(message.get_channel_name(), text);
    }
    routes.close();
}

/// Receivers by channel; `None` once the connection ended.
#[derive(Clone)]
struct Routes(Arc<std::sync::Mutex<Option<Senders>>>);

/// Receivers of each channel.
type Senders = HashMap<String, Vec<mpsc::Sender<String>>>;

impl Default for Routes {
    fn default() -> Self {
        Self(Arc::new(std::sync::Mutex::new(Some(Senders::new()))))
    }
}

impl Routes {
    fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Ends all subscriptions.
    fn close(&self) {
        self.lock().take();
    }

    /// Adds a receiver of `channel`. Returns the channels without receivers.
    fn add(&self, channel: &str, sender: mpsc::Sender<String>) -> Vec<String> {
        let mut senders = self.lock();
        let Some(senders) = senders.as_mut() else {
            return Vec::new();
        };
        senders.entry(channel.to_owned()).or_default().push(sender);
        let mut unread = Vec::new();
        senders.retain(|channel, senders| {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                unread.push(channel.clone());
            }
            !senders.is_empty()
        });
        unread
    }

    fn deliver(&self, channel: &str, text: String) {
        let mut senders = self.lock();
        let senders = senders
            .as_mut()
            .and_then(|senders| senders.get_mut(channel));
        for sender in senders.into_iter().flatten() {
            if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(text.clone()) {
                tracing::debug!(channel, "dropped a message: its reader fell behind");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Senders>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_gets_its_channels_messages_until_it_is_dropped() {
        let routes = Routes::default();
        let (sender, mut one) = mpsc::channel(1);
        assert!(routes.add("a", sender).is_empty());
        let (sender, mut other) = mpsc::channel(1);
        routes.add("b", sender);
        routes.deliver("a", "1".to_owned());
        // The receiver is full: dropped.
        routes.deliver("a", "2".to_owned());
        routes.deliver("c", "3".to_owned());
        assert_eq!(one.try_recv().unwrap(), "1");
        assert!(one.try_recv().is_err() && other.try_recv().is_err());
        drop(one);
        let (sender, _third) = mpsc::channel(1);
        assert_eq!(routes.add("c", sender), ["a"]);
    }

    #[test]
    fn the_end_of_the_connection_ends_every_subscription() {
        let routes = Routes::default();
        let (sender, mut messages) = mpsc::channel(1);
        routes.add("a", sender);
        routes.close();
        assert!(!routes.is_open());
        let closed = mpsc::error::TryRecvError::Disconnected;
        assert_eq!(messages.try_recv(), Err(closed));
        let (sender, mut messages) = mpsc::channel(1);
        routes.add("a", sender);
        assert_eq!(messages.try_recv(), Err(closed));
    }
}
