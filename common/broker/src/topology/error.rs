//! Errors of declarations.

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use crate::connection;
use crate::publisher::PublishError;

/// Why queues cannot be declared or used.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] PublishError),
    /// A queue of that name exists with other arguments.
    #[error(
        "rabbitmq has a queue of this namespace with other arguments ({0}): start all processes of a namespace with \
         the same --queue-type; queues of an older warmq are to be deleted, or choose another --namespace"
    )]
    Mismatch(String),
    /// The user has no permission.
    #[error(
        "rabbitmq does not let this user use its queues ({0}): grant it (`rabbitmqctl set_permissions -p VHOST USER '.*' \
         '.*' '.*'`)"
    )]
    Forbidden(String),
    /// The connection broke.
    #[error("the connection to RabbitMQ broke: {0}")]
    Broke(String),
}

impl DeclareError {
    /// Returns whether retrying is useless: settings must change, here or in the broker.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_final(),
            Self::Mismatch(_) | Self::Forbidden(_) => true,
            Self::Broke(_) => false,
        }
    }
}

impl From<connection::Error> for DeclareError {
    fn from(error: connection::Error) -> Self {
        Self::Connect(error.into())
    }
}

impl From<lapin::Error> for DeclareError {
    fn from(error: lapin::Error) -> Self {
        let lapin::ErrorKind::ProtocolError(refused) = error.kind() else {
            return Self::Broke(error.to_string());
        };
        let text = refused.get_message().to_string();
        match refused.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Self::Mismatch(text),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Forbidden(text),
            _ => Self::Broke(text),
        }
    }
}
