//! Dead letters: messages of jobs that failed for good, with the reason.

use std::time::{SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use warmq_types::ids::JobId;
use warmq_types::text::{shortened, utf8_or_latin1};

use super::publisher::Message;

/// Header: the reason.
const REASON_HEADER: &str = "x-warmq-reason";

/// Header: time of the dead letter, Unix ms by its writer's clock.
const TIME_HEADER: &str = "x-warmq-dead-since";

/// Header: the routing key of a refused submission on exchange `jobs`.
const ROUTING_KEY_HEADER: &str = "x-warmq-routing-key";

/// Header: the message id of a refused submission.
const MESSAGE_ID_HEADER: &str = "x-warmq-message-id";

/// Prefixes of headers that belong to the broker or to warmq.
const FOREIGN_HEADERS: [&str; 4] = ["x-warmq-", "x-death", "x-first-death-", "x-last-death-"];

/// Maximum length of a header, bytes. All headers of a message share one frame, by default of 128
/// KiB: a message that exceeds it would break the connection and be redelivered for ever. A longer
/// header is invalid whole or cut (a hint has 256 bytes at most), so a redriven submission is
/// refused again.
const LONGEST_HEADER: usize = 4096;

/// Maximum total length of headers, bytes: half of a frame. Further headers of a submission are
/// omitted.
const LONGEST_HEADERS: usize = 64 * 1024;

/// A message in a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The job's id; otherwise the letter's own.
    pub id: JobId,
    /// The reason.
    pub reason: String,
    /// Time of the dead letter, Unix ms.
    pub since_ms: u64,
    /// The refused submission, if it is one.
    pub submission: Option<RefusedSubmission>,
    /// The body.
    pub body: Vec<u8>,
}

/// Properties of a refused AMQP submission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedSubmission {
    /// The app, as the submitter wrote it.
    pub routing_key: String,
    /// The submission's message id, if any.
    pub message_id: Option<String>,
    /// The submission's headers, restored by a redrive.
    pub headers: Vec<(String, String)>,
}

impl DeadLetter {
    /// Returns a letter for a body that is not a job.
    pub fn new(body: Vec<u8>, reason: impl Into<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: JobId::generate(),
            reason: reason.into(),
            since_ms: since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
            submission: None,
            body,
        }
    }

    /// Returns the message to publish.
    pub fn message(self) -> Message {
        let mut headers = vec![
            (REASON_HEADER.to_owned(), self.reason),
            (TIME_HEADER.to_owned(), self.since_ms.to_string()),
        ];
        if let Some(submission) = self.submission {
            headers.push((ROUTING_KEY_HEADER.to_owned(), submission.routing_key));
            let id = submission.message_id;
            headers.extend(id.map(|id| (MESSAGE_ID_HEADER.to_owned(), id)));
            headers.extend(submission.headers);
        }
        let mut room = LONGEST_HEADERS;
        let headers = headers
            .into_iter()
            .map(|(name, text)| (name, shortened(text, LONGEST_HEADER)))
            .filter(|(name, text)| {
                let taken = name.len() + text.len();
                let fits = taken <= room;
                room -= if fits { taken } else { 0 };
                fits
            })
            .collect();
        Message {
            message_id: Some(self.id.to_string()),
            headers,
            ..Message::new(self.body)
        }
    }

    /// Parses what [`DeadLetter::message`] wrote; `None` if the message has no id of that kind.
    pub fn read(properties: &BasicProperties, body: Vec<u8>) -> Option<Self> {
        let id = properties.message_id().as_ref()?.as_str().parse().ok()?;
        let header = |name: &str| text_header(properties, name);
        let since_ms = header(TIME_HEADER).and_then(|text| text.parse().ok());
        Some(Self {
            id,
            reason: header(REASON_HEADER).unwrap_or_default(),
            since_ms: since_ms.unwrap_or(0),
            submission: header(ROUTING_KEY_HEADER).map(|routing_key| RefusedSubmission {
                routing_key,
                message_id: header(MESSAGE_ID_HEADER),
                headers: submission_headers(properties),
            }),
            body,
        })
    }
}

/// Returns the submitter's headers that are text or can be written as text.
pub fn submission_headers(properties: &BasicProperties) -> Vec<(String, String)> {
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    let own = headers.map(|(name, _)| name.as_str()).filter(|name| {
        let foreign = |prefix: &&str| name.starts_with(*prefix);
        !FOREIGN_HEADERS.iter().any(foreign)
    });
    own.filter_map(|name| Some((name.to_owned(), text_header(properties, name)?)))
        .collect()
}

/// Returns a header as text; clients send numbers and booleans with their own types.
pub fn text_header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(utf8_or_latin1(text.as_bytes())),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(truth) => Some(truth.to_string()),
        AMQPValue::ShortShortInt(number) => Some(number.to_string()),
        AMQPValue::ShortInt(number) => Some(number.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::Double(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_makes_a_header_that_breaks_the_connection() {
        let long = "é".repeat(100_000);
        let letter = DeadLetter {
            submission: Some(RefusedSubmission {
                headers: vec![("x-runner-hint".to_owned(), long.clone())],
                ..RefusedSubmission::default()
            }),
            ..DeadLetter::new(Vec::new(), long)
        };
        for (name, text) in letter.message().headers {
            assert!(text.len() <= LONGEST_HEADER + 3, "{name}");
        }
        let many = (0..1000).map(|number| (format!("x-{number}"), "x".repeat(1000)));
        let letter = DeadLetter {
            submission: Some(RefusedSubmission {
                headers: many.collect(),
                ..RefusedSubmission::default()
            }),
            ..DeadLetter::new(Vec::new(), "why")
        };
        let headers = letter.message().headers;
        let sizes = headers.iter().map(|(name, text)| name.len() + text.len());
        assert!(sizes.sum::<usize>() <= LONGEST_HEADERS);
        assert_eq!(headers[0].1, "why");
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let letter = DeadLetter {
            submission: Some(RefusedSubmission {
                routing_key: "no/where".to_owned(),
                message_id: Some("order-7".to_owned()),
                headers: vec![
                    ("x-plan".to_owned(), "pro".to_owned()),
                    ("x-runner-hint".to_owned(), "größe".to_owned()),
                ],
            }),
            ..DeadLetter::new(b"{".to_vec(), "not JSON")
        };
        let properties = letter.clone().message().properties();
        assert_eq!(DeadLetter::read(&properties, b"{".to_vec()), Some(letter));
    }
}
