//! The channel on which all runners of a process consume. Prefetch counts per consumer, so each of
//! them has one job at a time nevertheless, and the messages of many runners share reads, writes
//! and wake-ups on both sides.

use std::sync::Arc;

use lapin::{Channel, Connection};
use tokio::sync::Mutex;
use warmq_broker::{Connections, DeclareError, Topology, consumer};
use warmq_types::server_url::ServerUrl;

/// A cheap handle on the channel, which is opened when needed.
#[derive(Clone)]
pub struct ConsumeChannel {
    connections: Connections,
    open: Arc<Mutex<Option<OpenChannel>>>,
}

/// The channel and its connection, on which declarations open channels of their own: RabbitMQ
/// closes the channel of a declaration that it rejects.
#[derive(Clone)]
pub(crate) struct OpenChannel {
    pub(crate) connection: Arc<Connection>,
    pub(crate) channel: Channel,
}

impl ConsumeChannel {
    /// No channel yet.
    pub(crate) fn new(url: ServerUrl, topology: Topology) -> Self {
        Self {
            connections: Connections::new(url, "warmq-worker consume", topology, 1).for_jobs(),
            open: Arc::default(),
        }
    }

    /// Returns the channel, a new one if the last one was closed.
    ///
    /// # Errors
    /// RabbitMQ is unreachable, or a queue exists with other arguments.
    pub(crate) async fn get(&self) -> Result<OpenChannel, DeclareError> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref()
            && open.channel.status().connected()
        {
            return Ok(open.clone());
        }
        let connection = self.connections.get().await?;
        let channel = consumer::channel(&connection, 1).await?;
        let opened = OpenChannel {
            connection,
            channel,
        };
        Ok(open.insert(opened).clone())
    }

    /// Closes the connection.
    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }
}
