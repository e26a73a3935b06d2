//! Position in a distributed trace, as W3C Trace Context writes it (header `traceparent`):
//! `00-<trace id>-<span id>-<flags>` in lower-case hexadecimal.
//! Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of the HTTP header, and of the AMQP header.
pub const TRACEPARENT: &str = "traceparent";

/// A span that later spans continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent {
    /// Id of the trace; not zero.
    pub trace_id: [u8; 16],
    /// Id of the span; not zero.
    pub span_id: [u8; 8],
    /// Bit 0: whether the trace is recorded.
    pub flags: u8,
}

/// A text that is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 00-<32 digits>-<16 digits>-<2 digits> in lower-case hexadecimal, ids not zero")]
pub struct InvalidTraceparent;

impl FromStr for Traceparent {
    type Err = InvalidTraceparent;

    /// Parses version 00. Of a later version, the fields that it shares are read, as the standard
    /// requires.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let mut parts = text.trim().split('-');
        let [version] = digits(parts.next())?;
        let parsed = Self {
            trace_id: digits(parts.next())?,
            span_id: digits(parts.next())?,
            flags: u8::from_be_bytes(digits(parts.next())?),
        };
        let is_known = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        let has_ids = parsed.trace_id != [0; 16] && parsed.span_id != [0; 8];
        match is_known && has_ids {
            true => Ok(parsed),
            false => Err(InvalidTraceparent),
        }
    }
}

/// Parses exactly `N` bytes of lower-case hexadecimal.
fn digits<const N: usize>(text: Option<&str>) -> Result<[u8; N], InvalidTraceparent> {
    let text = text.ok_or(InvalidTraceparent)?;
    let mut bytes = [0; N];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if !text.contains(char::is_uppercase) => Ok(bytes),
        _ => Err(InvalidTraceparent),
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (hex::encode(self.trace_id), hex::encode(self.span_id));
        write!(f, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

impl TryFrom<String> for Traceparent {
    type Error = InvalidTraceparent;

    fn try_from(text: String) -> Result<Self, InvalidTraceparent> {
        text.parse()
    }
}

impl From<Traceparent> for String {
    fn from(position: Traceparent) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_position_is_printed_as_it_was_written() {
        assert_eq!(EXAMPLE.parse::<Traceparent>().unwrap().to_string(), EXAMPLE);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = EXAMPLE.replacen("00", "cc", 1) + "-what-the-future";
        assert_eq!(later.parse::<Traceparent>(), EXAMPLE.parse());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "00",
            &EXAMPLE[1..],
            &EXAMPLE.to_uppercase(),
            &format!("{EXAMPLE}-more"),
            &EXAMPLE.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(
                text.parse::<Traceparent>(),
                Err(InvalidTraceparent),
                "{text}"
            );
        }
    }
}
