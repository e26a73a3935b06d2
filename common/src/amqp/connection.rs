//! Connecting to RabbitMQ, with errors that say what to do.
//!
//! No automatic recovery: lapin's re-declares queues, and a runner's queue must never be re-created
//! (messages that died with the old one would be lost in silence). Each long-running part reconnects by itself.

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::config::ServerUrl;

/// Heartbeat that we ask for, s: a frozen peer is noticed after about three.
const HEARTBEAT_S: u16 = 5;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one.
    #[error("the AMQP URL {url} can not be read: {reason}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers, or the answer is no.
    #[error(
        "RabbitMQ does not answer at {url}: {reason}. Start it (Debian: `sudo apt-get install rabbitmq-server && \
         sudo systemctl start rabbitmq-server`, or `make setup`), or set --amqp-url / WARMQ_AMQP_URL"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// lapin's, which the sentence holds already.
        reason: Box<lapin::Error>,
    },
}

/// Opens a connection that shows as `name` in RabbitMQ's lists.
///
/// # Errors
/// The URL can not be read, or nobody answers there.
pub async fn connect(url: &ServerUrl, name: &str) -> Result<Connection, Error> {
    let mut uri: AMQPUri = url.expose().parse().map_err(|reason: String| Error::Url {
        url: url.to_string(),
        reason,
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.connection_timeout.get_or_insert(5_000);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect_uri(uri, properties)
        .await
        .map_err(|reason| Error::Unreachable {
            url: url.to_string(),
            reason: Box::new(reason),
        })
}
