//! A message with its destination.

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};

use super::error::PublishError;
use super::message::Message;
use super::outcomes::{Address, Confirm, Outcome};

/// A message to publish to an exchange.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) message: Message,
    /// Whether it must reach a queue.
    pub(super) mandatory: bool,
}

impl Publish {
    /// Publishes on a channel in confirm mode, and waits for the confirm.
    pub(super) async fn on(&self, channel: &Channel) -> Confirm {
        let options = BasicPublishOptions {
            mandatory: self.mandatory,
            ..BasicPublishOptions::default()
        };
        let confirmed = async {
            let published = channel.basic_publish(
                self.exchange.as_str().into(),
                self.routing_key.as_str().into(),
                options,
                &self.message.body,
                self.message.properties(),
            );
            published.await?.await
        };
        let (is_ack, returned) = match confirmed.await {
            Ok(Confirmation::Ack(returned)) => (Ok(true), returned),
            Ok(Confirmation::Nack(returned)) => (Ok(false), returned),
            Ok(Confirmation::NotRequested) => (Ok(false), None),
            Err(error) => (Err(error), None),
        };
        Confirm {
            is_ack,
            returned: returned.as_ref().map(Address::from),
        }
    }

    pub(super) fn address(&self) -> Address {
        Address {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            message_id: self.message.message_id.clone(),
        }
    }

    /// Returns the publisher's result.
    pub(super) fn result(&self, outcome: Outcome) -> Result<(), PublishError> {
        match outcome {
            Outcome::Arrived => Ok(()),
            Outcome::Returned => Err(PublishError::Returned {
                exchange: self.exchange.clone(),
                routing_key: self.routing_key.clone(),
            }),
            Outcome::Refused => Err(PublishError::Refused),
        }
    }
}
