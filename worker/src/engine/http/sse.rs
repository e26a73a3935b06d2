//! Reads server-sent events from pieces of a response.

use serde_json::Value;

/// Last event of some streams, which is not JSON.
const DONE: &str = "[DONE]";

/// The unread part of a stream of events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Bytes of the line that has not ended.
    line: Vec<u8>,
    /// Data of the event that has not ended.
    data: Option<String>,
    max_bytes: usize,
}

/// An event exceeds the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Events {
    /// Creates a reader of events of at most `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            ..Self::default()
        }
    }

    /// Returns the events that `piece` completes. Data that is not JSON becomes a string.
    ///
    /// # Errors
    /// An event exceeds the limit.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Value>, TooLarge> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let pending = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if pending + part.len() > self.max_bytes {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_line(&line));
            }
        }
        Ok(events)
    }

    /// Returns the last event of a stream that ends without an empty line.
    pub(super) fn end(mut self) -> Option<Value> {
        let line = std::mem::take(&mut self.line);
        let ended = self.end_line(&line);
        ended.or_else(|| self.event())
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Value> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return self.event();
        }
        if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            match &mut self.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                none => *none = Some(data.to_owned()),
            }
        }
        None
    }

    fn event(&mut self) -> Option<Value> {
        let data = self.data.take().filter(|data| data != DONE)?;
        Some(serde_json::from_str(&data).unwrap_or(Value::String(data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const STREAM: &str = ": ping\r\n\r\nevent: x\ndata: {\"a\":\ndata: \"é\"}\n\ndata:text\n\n\
                          id: 1\n\ndata: [DONE]\n\ndata: 3";

    fn expected() -> Vec<Value> {
        vec![json!({"a": "é"}), json!("text"), json!(3)]
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_the_pieces(cuts in prop::collection::vec(0..STREAM.len(), 0..9)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut reader, mut found, mut from) = (Events::new(1000), Vec::new(), 0);
            for to in cuts.into_iter().chain([STREAM.len()]) {
                found.extend(reader.push(&STREAM.as_bytes()[from..to]).unwrap());
                from = to;
            }
            found.extend(reader.end());
            prop_assert_eq!(found, expected());
        }
    }

    #[test]
    fn an_event_without_end_is_bounded() {
        let mut reader = Events::new(100);
        let line = [b"data: ".as_slice(), &[b'x'; 40], b"\n"].concat();
        assert!(reader.push(&line).is_ok());
        assert!(reader.push(&line).is_ok());
        assert_eq!(reader.push(&line), Err(TooLarge));
    }
}
