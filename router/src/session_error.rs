//! Why a long-running part has to start over with a new connection.

use warmq_broker::PublishError;
use warmq_broker::advice::explained;

use crate::finalizer::EndError;

/// A server went away under a part that needs it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// RabbitMQ cannot be reached.
    #[error(transparent)]
    Connect(#[from] warmq_broker::Error),
    /// The connection broke.
    #[error("the connection to RabbitMQ broke: {}", explained(.0))]
    Lapin(#[from] lapin::Error),
    /// A message is not known to have arrived.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// Redis ended a subscription.
    #[error("the subscription to Redis ended")]
    SubscriptionEnded,
    /// A flow's step cannot be submitted.
    #[error("a step cannot be submitted: {0}")]
    Step(String),
    /// RabbitMQ ended a consumer: its queue was deleted.
    #[error("RabbitMQ ended the consumer")]
    Ended,
}

impl SessionError {
    /// Stored data is to blame, and no server: the same work fails again.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_damage())
    }
}

impl From<EndError> for SessionError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            EndError::Announce(error) => error.into(),
        }
    }
}
