//! Connections to RabbitMQ that the sessions of all apps share: one holds buffers of 8 MiB, a
//! channel some KiB.

use std::sync::Arc;

use lapin::Connection;
use tokio::sync::Mutex;
use warmq_types::server_url::ServerUrl;

/// Channels that one session may need at once.
const CHANNELS_PER_SESSION: usize = 8;

/// The name in RabbitMQ's lists.
const NAME: &str = "warmq-router dispatch";

/// A cheap handle on the connections, which are opened when needed.
#[derive(Clone)]
pub struct Connections {
    url: ServerUrl,
    open: Arc<Mutex<Vec<Arc<Connection>>>>,
}

impl Connections {
    /// No connection yet.
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            open: Arc::default(),
        }
    }

    /// Returns a connection with room for one session more. The session ends its use by dropping
    /// it.
    ///
    /// # Errors
    /// See [`warmq_broker::Error`].
    pub(super) async fn get(&self) -> Result<Arc<Connection>, warmq_broker::Error> {
        let mut open = self.open.lock().await;
        open.retain(|connection| connection.status().connected());
        if let Some(connection) = open.iter().find(|connection| has_room(connection)) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(warmq_broker::connect(&self.url, NAME).await?);
        open.push(connection.clone());
        Ok(connection)
    }

    /// Closes all connections, with the channels that are still open on them.
    pub(super) async fn close(&self) {
        for connection in self.open.lock().await.drain(..) {
            if let Err(error) = connection.close(200, "stopping".into()).await {
                tracing::debug!(%error, "a connection was not closed in order");
            }
        }
    }
}

fn has_room(connection: &Arc<Connection>) -> bool {
    let channels = usize::from(connection.configuration().channel_max());
    // The list here holds the connection once, each session once more.
    Arc::strong_count(connection) <= (channels / CHANNELS_PER_SESSION).max(1)
}
