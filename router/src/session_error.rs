//! Errors that end a session of a long-running component, which then reconnects.

use warmq_broker::advice::explained;
use warmq_broker::{DeclareError, PublishError};

use crate::finalizer::EndError;

/// A server failed during a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// RabbitMQ is unreachable.
    #[error(transparent)]
    Connect(#[from] warmq_broker::Error),
    /// The connection to RabbitMQ broke.
    #[error("the connection to RabbitMQ broke: {}", explained(.0))]
    Lapin(#[from] lapin::Error),
    /// RabbitMQ is unreachable, or rejected a declaration.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// A publish was not confirmed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Redis failed.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// Redis ended a subscription.
    #[error("the subscription to Redis ended")]
    SubscriptionEnded,
    /// A flow's step cannot be submitted.
    #[error("a step cannot be submitted: {0}")]
    Step(String),
    /// The connection to RabbitMQ was lost, and a call on it has not returned.
    #[error("the connection to RabbitMQ is lost, and a call on it does not return")]
    Stuck,
    /// RabbitMQ ended a consumer, since its queue was deleted.
    #[error("RabbitMQ ended the consumer")]
    Ended,
}

impl SessionError {
    /// Returns whether stored data is damaged, so that a retry fails again.
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
