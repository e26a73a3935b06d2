//! The message of a pending delivery: the job's event, and from the second attempt on a message
//! with the number of the attempt.

use lapin::message::Delivery;
use warmq_broker::Message;
use warmq_broker::dead_letter::text_header;
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{Error, JobEvent, Versioned};

const ATTEMPT_HEADER: &str = "x-warmq-attempt";

/// Header with the time of the end, Unix ms.
const END_HEADER: &str = "x-warmq-end";

/// Header with the booked time of a delayed notice, Unix ms by this router's clock.
const BOOKED_HEADER: &str = "x-warmq-booked";

/// A pending delivery.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    event: JobEvent,
    /// Number of the attempt, from 1.
    pub(super) attempt: u32,
    /// Time of the end, Unix ms; `None` in an event, which refers to the latest end.
    end_ms: Option<u64>,
    /// Booked time, Unix ms.
    pub(super) booked_ms: Option<u64>,
}

impl Notice {
    /// Parses an event, or a message of [`Notice::message`].
    pub(super) fn read(delivery: &Delivery) -> Result<Self, Error> {
        let header = |name| text_header(&delivery.properties, name);
        Ok(Self {
            event: JobEvent::decode(&delivery.data)?,
            attempt: header(ATTEMPT_HEADER)
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
            end_ms: header(END_HEADER).and_then(|text| text.parse().ok()),
            booked_ms: header(BOOKED_HEADER).and_then(|text| text.parse().ok()),
        })
    }

    pub(super) fn app(&self) -> &AppId {
        &self.event.app
    }

    pub(super) fn job(&self) -> JobId {
        self.event.job_id
    }

    /// Returns whether it refers to the end at `end_ms` (Unix ms). An event refers to any.
    pub(super) fn is_of(&mut self, end_ms: u64) -> bool {
        *self.end_ms.get_or_insert(end_ms) == end_ms
    }

    /// Returns the message to publish.
    pub(super) fn message(&self) -> Message {
        let mut headers = vec![(ATTEMPT_HEADER.to_owned(), self.attempt.to_string())];
        for (name, moment_ms) in [(END_HEADER, self.end_ms), (BOOKED_HEADER, self.booked_ms)] {
            headers.extend(moment_ms.map(|ms| (name.to_owned(), ms.to_string())));
        }
        Message {
            message_id: Some(self.event.job_id.to_string()),
            headers,
            // Encoding cannot fail: string keys, no I/O.
            ..Message::new(self.event.encode().unwrap_or_default())
        }
    }
}
