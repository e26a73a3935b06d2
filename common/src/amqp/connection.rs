//! Connecting to RabbitMQ, with errors that say what to do.
//!
//! No automatic recovery: lapin's re-declares queues, and a runner's queue must never be re-created
//! (messages that died with the old one would be lost in silence). Each long-running part reconnects by itself.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::config::ServerUrl;
use crate::tls;

/// Heartbeat that we ask for, s: a frozen peer is noticed after about three.
const HEARTBEAT_S: u16 = 5;

/// How long a connection may take, from TCP to the broker's last word of welcome. lapin bounds TCP alone: a broker that hangs
/// keeps it waiting, and (4.12) a refusal that comes before lapin listens for it does for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Its certificate is none that we trust.
    #[error(
        "the certificate of RabbitMQ at {url} is not trusted: {reason}. If its authority is your own, name a PEM file with \
         it in SSL_CERT_FILE"
    )]
    Untrusted {
        /// The URL, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody may be there, but says nothing.
    #[error("RabbitMQ at {url} has not answered for {} s: does it hang?", waited.as_secs())]
    Silent {
        /// The URL, without its password.
        url: String,
        /// The bound.
        waited: Duration,
    },
}

/// Opens a connection that shows as `name` in RabbitMQ's lists.
///
/// # Errors
/// The URL can not be read, or nobody answers there.
pub async fn connect(url: &ServerUrl, name: &str) -> Result<Connection, Error> {
    connect_within(CONNECT_TIMEOUT, url, name).await
}

async fn connect_within(
    timeout: Duration,
    url: &ServerUrl,
    name: &str,
) -> Result<Connection, Error> {
    tls::prepare();
    let mut uri: AMQPUri = url.expose().parse().map_err(|reason: String| Error::Url {
        url: url.to_string(),
        reason,
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.connection_timeout.get_or_insert(5_000);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    match tokio::time::timeout(timeout, Connection::connect_uri(uri, properties)).await {
        Ok(connected) => connected.map_err(|error| match tls::distrust(&error) {
            Some(reason) => Error::Untrusted {
                url: url.to_string(),
                reason,
            },
            None => Error::Unreachable {
                url: url.to_string(),
                reason: Box::new(error),
            },
        }),
        Err(_) => Err(Error::Silent {
            url: url.to_string(),
            waited: timeout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broker_that_says_nothing_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("amqp://127.0.0.1:{port}/%2f").parse().unwrap();
        // The system takes the connection; nobody reads from it.
        let connected = connect_within(Duration::from_millis(100), &url, "test").await;
        assert!(matches!(connected, Err(Error::Silent { .. })));
    }
}
