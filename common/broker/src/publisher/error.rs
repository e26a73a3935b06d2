//! Why a message is not confirmed.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use super::CONFIRM_TIMEOUT;
use crate::connection;

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
pub(super) fn refusal(error: lapin::Error) -> PublishError {
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
