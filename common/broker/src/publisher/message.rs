//! Messages to publish.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// Delivery mode of a message that the broker keeps in memory.
const TRANSIENT: u8 = 1;

/// Delivery mode of a message that the broker stores before it confirms it.
const PERSISTENT: u8 = 2;

/// Header of a job that a runner returned.
const RETURNED_HEADER: &str = "x-warmq-returned";

/// Returns whether a job's message was returned: by a runner, or by the broker from a runner's
/// queue or a retry tier.
pub fn has_returned(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| {
        let headers = headers.inner();
        headers.contains_key(RETURNED_HEADER) || headers.contains_key("x-death")
    })
}

/// A message to publish. Its properties are always new, so nothing (`x-death` above all) is carried
/// over by accident.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Body.
    pub body: Vec<u8>,
    /// Id, for deduplication by the receiver.
    pub message_id: Option<String>,
    /// Correlation id of a reply.
    pub correlation_id: Option<String>,
    /// Headers with text values.
    pub headers: Vec<(String, String)>,
    /// Whether the broker keeps it in memory only, and loses it when it restarts.
    pub transient: bool,
}

impl Message {
    /// Returns a message without id and headers.
    pub fn new(body: Vec<u8>) -> Self {
        Self {
            body,
            ..Self::default()
        }
    }

    /// Marks the message of a job that a runner returned.
    #[must_use]
    pub fn returned(mut self) -> Self {
        self.headers
            .push((RETURNED_HEADER.to_owned(), "1".to_owned()));
        self
    }

    pub(crate) fn properties(&self) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(match self.transient {
                true => TRANSIENT,
                false => PERSISTENT,
            })
            .with_content_type("application/json".into());
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(id.as_str().into());
        }
        if !self.headers.is_empty() {
            let mut table = FieldTable::default();
            for (name, value) in &self.headers {
                table.insert(
                    ShortString::from(name.as_str()),
                    AMQPValue::LongString(value.as_str().into()),
                );
            }
            properties = properties.with_headers(table);
        }
        properties
    }
}
