//! Server-sent events as fal's clients read them: `data: {json}` and nothing else, with a heartbeat
//! in between.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// Heartbeat interval: proxies close silent connections after a minute or less.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Maximum number of open streams. Each reads Redis four times a second: 4000 of the about 50,000
/// commands that a Redis handles.
const MAX_STREAMS: usize = 1000;

/// The limit of open streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Streams {
    /// Returns a permit for one stream.
    ///
    /// # Errors
    /// The maximum of streams is open.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        permit.map_err(|_| ApiError::too_many_streams(MAX_STREAMS))
    }
}

/// Returns the values as events; the permit is released at their end.
pub(super) fn events(
    values: impl Stream<Item = impl Serialize> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> Response {
    let events = values.map(move |value| {
        let _permit = &permit;
        Ok::<_, Infallible>(Event::default().data(ascii(&value)))
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("ping");
    let mut response = Sse::new(events).keep_alive(heartbeat).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Otherwise nginx buffers 4 KiB of events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Encodes as ASCII-only JSON: fal's JavaScript client decodes each chunk alone, and would break a
/// character across two.
fn ascii(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    // Cannot fail: string keys, no I/O.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut text, Ascii));
    String::from_utf8(text).unwrap_or_default()
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_stream_too_many_is_refused_until_another_has_ended() {
        let streams = Streams(Arc::new(Semaphore::new(1)));
        let answer = events(futures::stream::empty::<Value>(), streams.permit().unwrap());
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        let refused = streams.permit().unwrap_err().into_response();
        assert_eq!(
            refused.status(),
            axum::http::StatusCode::SERVICE_UNAVAILABLE
        );
        drop(answer);
        assert!(streams.permit().is_ok());
    }

    #[test]
    fn every_character_survives_as_ascii() {
        let value = json!({"né\n": ["\u{7f}\"\\", "猫🐈", 1.5, null]});
        let text = ascii(&value);
        assert!(text.is_ascii() && !text.contains('\n'), "{text}");
        assert!(text.contains("\\u732b\\ud83d\\udc08"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
