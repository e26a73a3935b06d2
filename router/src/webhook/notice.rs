//! The message that has a webhook told: the job's event, and from the second attempt on which
//! attempt of which end it is.

use lapin::message::Delivery;
use warmq_broker::Message;
use warmq_broker::dead_letter::text_header;
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{Error, JobEvent, Versioned};

const ATTEMPT_HEADER: &str = "x-warmq-attempt";

/// The moment of the end, Unix ms.
const END_HEADER: &str = "x-warmq-end";

/// When a notice that found no place comes again, Unix ms by this router's clock.
const BOOKED_HEADER: &str = "x-warmq-booked";

/// That a webhook is to be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    event: JobEvent,
    /// From 1.
    pub(super) attempt: u32,
    /// None in the event itself: the job's latest end is meant.
    end_ms: Option<u64>,
    /// When a place is booked for it, Unix ms.
    pub(super) booked_ms: Option<u64>,
}

impl Notice {
    /// Reads an event, or what [`Notice::message`] wrote.
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

    /// Whether it is about the end at `end_ms` (Unix ms). A notice that says none is from now on.
    pub(super) fn is_of(&mut self, end_ms: u64) -> bool {
        *self.end_ms.get_or_insert(end_ms) == end_ms
    }

    /// The message to publish.
    pub(super) fn message(&self) -> Message {
        let mut headers = vec![(ATTEMPT_HEADER.to_owned(), self.attempt.to_string())];
        for (name, moment_ms) in [(END_HEADER, self.end_ms), (BOOKED_HEADER, self.booked_ms)] {
            headers.extend(moment_ms.map(|ms| (name.to_owned(), ms.to_string())));
        }
        Message {
            message_id: Some(self.event.job_id.to_string()),
            headers,
            // Encoding has no way to fail: string keys, no I/O.
            ..Message::new(self.event.encode().unwrap_or_default())
        }
    }
}
