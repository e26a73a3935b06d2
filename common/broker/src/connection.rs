//! Connections to RabbitMQ, with errors that name the remedy.
//!
//! No automatic recovery: lapin's declares queues again, and a runner's queue must never be
//! re-created (messages that were lost with the old one would go unnoticed). Each long-running part
//! reconnects by itself.

use std::time::Duration;

use lapin::protocol::AMQPErrorKind;
use lapin::protocol::AMQPHardError::NOTALLOWED;
use lapin::protocol::AMQPSoftError::ACCESSREFUSED;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};

use warmq_process::tls;
use warmq_types::server_url::ServerUrl;

/// Heartbeat interval, s: a frozen peer is detected after about three.
const HEARTBEAT_S: u16 = 5;

/// Timeout from TCP to the end of the AMQP handshake. lapin bounds TCP only: it waits for a hanging
/// broker, and (4.12) for ever after a refusal that arrives before lapin listens for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum frame of connections that carry warmq's own messages, bytes. lapin allocates 64 frames
/// per connection: 0.5 MiB instead of 8. RabbitMQ 4.1 refuses smaller frames. Other connections use
/// the broker's size, since a frame must hold all headers of a submitter's message.
const SMALL_FRAME: u32 = 8 * 1024;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The URL is invalid.
    #[error(
        "the AMQP URL {url} cannot be read ({reason}): write amqp://user:password@host:5672/%2f; behind a ? heartbeat, \
         frame_max, channel_max and connection_timeout are whole numbers"
    )]
    Url {
        /// The URL, without its password.
        url: String,
        /// The reason.
        reason: String,
    },
    /// Nothing listens at the address, or the connection ended during the handshake.
    #[error(
        "rabbitmq is unreachable at {url} ({reason}): start it (Debian: `sudo apt-get install rabbitmq-server && \
         sudo systemctl start rabbitmq-server`, or `make setup`), or set --amqp-url / WARMQ_AMQP_URL"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The system's or lapin's reason.
        reason: String,
    },
    /// The broker refuses this user.
    #[error("rabbitmq at {url} {refusal}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// The refusal, with its remedy.
        refusal: Refusal,
    },
    /// The certificate is not trusted.
    #[error(
        "the certificate of RabbitMQ at {url} is not trusted: {reason}. If its authority is your own, name a PEM file with \
         it in SSL_CERT_FILE"
    )]
    Untrusted {
        /// The URL, without its password.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The connection is open and the broker does not answer.
    #[error("rabbitmq at {url} has not answered for {} s: does it hang?", waited.as_secs())]
    Silent {
        /// The URL, without its password.
        url: String,
        /// Duration of the wait.
        waited: Duration,
    },
}

impl Error {
    /// Returns whether retrying is useless: settings must change, here or in the broker.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Untrusted { .. } => true,
            Self::Refused { refusal, .. } => !matches!(refusal, Refusal::Other { .. }),
            Self::Unreachable { .. } | Self::Silent { .. } => false,
        }
    }

    /// Returns the problem without the server's address, for users without access to it.
    pub fn summary(&self) -> String {
        match self {
            Self::Url { .. } => "the URL of RabbitMQ cannot be read".to_owned(),
            Self::Unreachable { .. } => "rabbitmq is unreachable".to_owned(),
            Self::Refused { refusal, .. } => format!("rabbitmq {}", refusal.summary()),
            Self::Untrusted { .. } => "the certificate of RabbitMQ is not trusted".to_owned(),
            Self::Silent { .. } => "rabbitmq does not answer".to_owned(),
        }
    }
}

/// Why RabbitMQ refuses a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong user or password.
    #[error(
        "refused the user or the password: correct them in --amqp-url / WARMQ_AMQP_URL (in a URL @ is written %40, / %2f, \
         # %23; RabbitMQ lets its user guest in from its own machine only)"
    )]
    Login,
    /// The URL ends with a slash, which names a virtual host without a name.
    #[error(
        "has no virtual host '', which the slash at the end of the URL names: leave the slash out, or write %2f behind it \
         for the default virtual host /"
    )]
    NoVirtualHost,
    /// The virtual host does not exist.
    #[error(
        "has no virtual host '{0}': create it (`rabbitmqctl add_vhost`), or end --amqp-url / WARMQ_AMQP_URL with another; \
         the default one, /, is written %2f"
    )]
    UnknownVirtualHost(String),
    /// The user has no permissions in the virtual host.
    #[error(
        "does not let this user into virtual host '{0}': grant it (`rabbitmqctl set_permissions -p VHOST USER '.*' '.*' \
         '.*'`)"
    )]
    Forbidden(String),
    /// The port does not use TLS.
    #[error(
        "does not speak TLS on this port: write amqp:// instead of amqps://, or use its TLS port (5671)"
    )]
    NotTls,
    /// Any other reason.
    #[error("refused the connection: {0}")]
    Other(String),
}

impl Refusal {
    fn summary(&self) -> &'static str {
        match self {
            Self::Login => "refused the user or the password",
            Self::NoVirtualHost | Self::UnknownVirtualHost(_) => "has no such virtual host",
            Self::Forbidden(_) => "does not let this user into the virtual host",
            Self::NotTls => "does not speak TLS on this port",
            Self::Other(_) => "refused the connection",
        }
    }

    /// Parses lapin's error; `None` if the broker did not answer.
    fn of(error: &lapin::Error, vhost: &str) -> Option<Self> {
        let ErrorKind::ProtocolError(refused) = error.kind() else {
            // rustls' error for a first byte that is not a TLS record.
            let not_tls = error.to_string().contains("InvalidContentType");
            return not_tls.then_some(Self::NotTls);
        };
        let text = refused.get_message().to_string();
        let vhost = || vhost.to_owned();
        Some(match refused.kind() {
            AMQPErrorKind::Soft(ACCESSREFUSED) => Self::Login,
            AMQPErrorKind::Hard(NOTALLOWED) if text.ends_with("not found") => {
                match vhost().as_str() {
                    "" => Self::NoVirtualHost,
                    _ => Self::UnknownVirtualHost(vhost()),
                }
            }
            AMQPErrorKind::Hard(NOTALLOWED) if is_forbidden(&text) => Self::Forbidden(vhost()),
            _ => Self::Other(text),
        })
    }
}

/// Returns whether a text is `access to vhost 'v' refused for user 'u'`, without a limit as its
/// reason.
fn is_forbidden(text: &str) -> bool {
    text.contains("refused for user") && !text.contains("limit")
}

/// Opens a connection that appears as `name` in RabbitMQ's lists.
///
/// # Errors
/// See [`Error`].
pub async fn connect(url: &ServerUrl, name: &str) -> Result<Connection, Error> {
    open(url, name, None, CONNECT_TIMEOUT).await
}

/// Opens a connection with small buffers, for queues to which warmq alone publishes.
///
/// # Errors
/// Those of [`connect`].
pub async fn connect_for_jobs(url: &ServerUrl, name: &str) -> Result<Connection, Error> {
    open(url, name, Some(SMALL_FRAME), CONNECT_TIMEOUT).await
}

async fn open(
    url: &ServerUrl,
    name: &str,
    frame_max: Option<u32>,
    timeout: Duration,
) -> Result<Connection, Error> {
    tls::install_crypto_provider();
    let mut uri: AMQPUri = url.expose().parse().map_err(|reason: String| Error::Url {
        url: url.to_string(),
        reason,
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.connection_timeout.get_or_insert(5_000);
    uri.query.frame_max = uri.query.frame_max.or(frame_max);
    let vhost = uri.vhost.clone();
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    match tokio::time::timeout(timeout, Connection::connect_uri(uri, properties)).await {
        Ok(connected) => connected.map_err(|error| explained(url, &vhost, &error)),
        Err(_) => Err(Error::Silent {
            url: url.to_string(),
            waited: timeout,
        }),
    }
}

fn explained(url: &ServerUrl, vhost: &str, error: &lapin::Error) -> Error {
    let url = url.to_string();
    if let Some(reason) = tls::certificate_error(error) {
        return Error::Untrusted { url, reason };
    }
    match Refusal::of(error, vhost) {
        Some(refusal) => Error::Refused { url, refusal },
        None => Error::Unreachable {
            url,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_broker_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("amqp://127.0.0.1:{port}/%2f").parse().unwrap();
        // The kernel accepts the connection; nothing reads from it.
        let connected = open(&url, "test", None, Duration::from_millis(100)).await;
        assert!(matches!(connected, Err(Error::Silent { .. })));
    }
}
