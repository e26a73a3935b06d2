//! Server-sent events of a response.

use std::marker::PhantomData;

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::{Client, Error};

/// The events of a response, each with JSON as its data.
pub struct EventStream<T> {
    client: Client,
    response: Response,
    buffer: EventBuffer,
    events: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> EventStream<T> {
    pub(super) fn new(client: Client, response: Response) -> Self {
        Self {
            client,
            response,
            buffer: EventBuffer::default(),
            events: PhantomData,
        }
    }

    /// Returns the next event; `None` at the end of the response.
    ///
    /// # Errors
    /// The connection broke, or the data of an event is not as expected.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(data) = self.buffer.take() {
                return self.client.json(&data).map(Some);
            }
            let chunk = self.response.chunk().await;
            let chunk = chunk.map_err(|source| Error::Unreachable {
                url: self.client.url().to_owned(),
                source,
            })?;
            match chunk {
                Some(chunk) => self.buffer.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Splits a body into events. Pure.
#[derive(Debug, Default)]
struct EventBuffer(Vec<u8>);

impl EventBuffer {
    fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }

    /// Takes the data of the next whole event that has some; others are heartbeats.
    fn take(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = self.0.windows(2).position(|pair| pair == b"\n\n")?;
            let event: Vec<u8> = self.0.drain(..end + 2).collect();
            let lines = event.split(|byte| *byte == b'\n');
            let data = lines.filter_map(|line| line.strip_prefix(b"data:"));
            let data = data.collect::<Vec<_>>().concat();
            if !data.is_empty() {
                return Some(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_split_wherever_chunks_end() {
        let body = b": ping\n\ndata: {\"a\":1}\n\n: ping\n\ndata: 2\n\ndata: 3";
        for size in 1..body.len() {
            let (mut buffer, mut events) = (EventBuffer::default(), Vec::new());
            for chunk in body.chunks(size) {
                buffer.push(chunk);
                while let Some(data) = buffer.take() {
                    events.push(String::from_utf8(data).unwrap());
                }
            }
            assert_eq!(events, [" {\"a\":1}", " 2"], "chunks of {size} bytes");
        }
    }
}
