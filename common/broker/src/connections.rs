//! Connections to RabbitMQ that many users of a few channels each share: a connection costs both
//! sides buffers and tasks, and each of its reads and writes may serve several channels. The queues
//! of the namespace are declared once per connection instead of once per user.

use std::sync::Arc;

use lapin::Connection;
use tokio::sync::Mutex;
use warmq_types::server_url::ServerUrl;

use super::connection::{connect, connect_for_jobs};
use super::topology::{DeclareError, Topology};

/// A cheap handle on the connections, which are opened when needed.
#[derive(Clone)]
pub struct Connections {
    url: ServerUrl,
    /// The name in RabbitMQ's lists.
    name: &'static str,
    topology: Topology,
    /// Channels that one user may need at once.
    channels_per_user: usize,
    for_jobs: bool,
    open: Arc<Mutex<Vec<Arc<Connection>>>>,
}

impl Connections {
    /// No connection yet.
    pub fn new(
        url: ServerUrl,
        name: &'static str,
        topology: Topology,
        channels_per_user: usize,
    ) -> Self {
        Self {
            url,
            name,
            topology,
            channels_per_user,
            for_jobs: false,
            open: Arc::default(),
        }
    }

    /// Opens them as [`connect_for_jobs`].
    #[must_use]
    pub fn for_jobs(mut self) -> Self {
        self.for_jobs = true;
        self
    }

    /// Returns a connection with room for one user more, who ends its use by dropping it. The base
    /// of the topology was declared on it.
    ///
    /// # Errors
    /// RabbitMQ is unreachable, or a queue exists with other arguments.
    pub async fn get(&self) -> Result<Arc<Connection>, DeclareError> {
        let mut open = self.open.lock().await;
        open.retain(|connection| connection.status().connected());
        if let Some(connection) = open.iter().find(|connection| self.has_room(connection)) {
            return Ok(connection.clone());
        }
        let opened = match self.for_jobs {
            true => connect_for_jobs(&self.url, self.name).await?,
            false => connect(&self.url, self.name).await?,
        };
        let channel = opened.create_channel().await?;
        self.topology.declare_base(&channel).await?;
        channel.close(200, "declared".into()).await?;
        let connection = Arc::new(opened);
        open.push(connection.clone());
        Ok(connection)
    }

    /// Closes all connections, with the channels that are still open on them.
    pub async fn close(&self) {
        for connection in self.open.lock().await.drain(..) {
            if let Err(error) = connection.close(200, "stopping".into()).await {
                tracing::debug!(%error, "a connection was not closed in order");
            }
        }
    }

    fn has_room(&self, connection: &Arc<Connection>) -> bool {
        let channels = usize::from(connection.configuration().channel_max());
        // The list here holds the connection once, each user once more.
        Arc::strong_count(connection) <= (channels / self.channels_per_user).max(1)
    }
}
