//! Timeouts of a connection: it is closed if a request's head stalls, or if it is idle for long
//! between requests.
//!
//! hyper's `header_read_timeout` is not used: it also runs while a kept-alive connection is idle
//! (hyper 1.12, module proto::h1::conn), so it cannot limit a head to 10 s and idleness to 75 s.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// State of a connection. hyper does not expose it: the stream detects the begin of a request, and
/// the handler marks its arrival and the end of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ConnectionPhase {
    /// Idle: just opened, or waiting for the next request.
    Quiet,
    /// A request's head is arriving.
    Head,
    /// A request is being handled; no timeout applies.
    Busy,
}

/// State shared by the stream and the handlers of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionState(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// Waker of the stream's reader: hyper does not poll it after a response, when the idle timeout
    /// begins.
    waiting: AtomicWaker,
}

impl ConnectionState {
    /// Marks a request as being handled while the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.set(ConnectionPhase::Busy);
        Busy(self.clone())
    }

    fn set(&self, phase: ConnectionPhase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> ConnectionPhase {
        match self.0.phase.load(Ordering::Relaxed) {
            busy if busy == ConnectionPhase::Busy as u8 => ConnectionPhase::Busy,
            head if head == ConnectionPhase::Head as u8 => ConnectionPhase::Head,
            _ => ConnectionPhase::Quiet,
        }
    }
}

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct Busy(ConnectionState);

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(state) = self;
        state.set(ConnectionPhase::Quiet);
        state.0.waiting.wake();
    }
}

/// A stream that fails at the timeouts of its phases.
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: ConnectionState,
    head: Duration,
    idle: Duration,
    /// Phase of the deadline `until`.
    seen: ConnectionPhase,
    until: Pin<Box<Sleep>>,
}

impl<S> TimeoutStream<S> {
    /// Returns a stream with the timeouts of a request's head and of an idle connection.
    pub(super) fn new(stream: S, state: ConnectionState, head: Duration, idle: Duration) -> Self {
        Self {
            stream,
            state,
            head,
            idle,
            seen: ConnectionPhase::Quiet,
            until: Box::pin(tokio::time::sleep(idle)),
        }
    }

    /// Returns whether the current phase has timed out.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = self.state.phase();
        let limit = match phase {
            ConnectionPhase::Busy => None,
            ConnectionPhase::Head => Some(self.head),
            ConnectionPhase::Quiet => Some(self.idle),
        };
        if phase != self.seen {
            self.seen = phase;
            if let Some(limit) = limit {
                self.until.as_mut().reset(Instant::now() + limit);
            }
        }
        limit.is_some() && self.until.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.state.0.waiting.register(cx.waker());
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.state.phase() == ConnectionPhase::Quiet {
            self.state.set(ConnectionPhase::Head);
        }
        match self.is_over(cx) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    fn connection() -> (DuplexStream, TimeoutStream<DuplexStream>, ConnectionState) {
        let (client, server) = tokio::io::duplex(64);
        let state = ConnectionState::default();
        let stream = TimeoutStream::new(server, state.clone(), HEAD, IDLE);
        (client, stream, state)
    }

    /// Waits for the next byte; returns the time until the timeout.
    async fn time_to_timeout(server: &mut TimeoutStream<DuplexStream>) -> Duration {
        let began = Instant::now();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    /// Compares durations; tokio's timers have a resolution of 1 ms.
    fn assert_about(measured: Duration, expected: Duration) {
        assert!(
            measured.abs_diff(expected) < Duration::from_millis(5),
            "{measured:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_outlasts_a_stalled_head() {
        let (_client, mut server, _) = connection();
        assert_about(time_to_timeout(&mut server).await, IDLE);
        let (mut client, mut server, _) = connection();
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'G');
        assert_about(time_to_timeout(&mut server).await, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_begins_after_a_response() {
        let (mut client, mut server, state) = connection();
        client.write_all(b"G").await.unwrap();
        server.read_u8().await.unwrap();
        let busy = state.busy();
        let waiting = tokio::spawn(async move { time_to_timeout(&mut server).await });
        tokio::task::yield_now().await;
        drop(busy);
        assert_about(waiting.await.unwrap(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_gains_no_time_by_its_bytes() {
        let (mut client, mut server, _) = connection();
        let dripping = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        while server.read_u8().await.is_ok() {}
        assert!(began.elapsed() <= HEAD + Duration::from_secs(1));
        drop(server);
        dripping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_has_no_timeout_and_the_idle_timeout_follows_it() {
        let (mut client, mut server, state) = connection();
        client.write_all(b"G").await.unwrap();
        server.read_u8().await.unwrap();
        let busy = state.busy();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, server.read_u8()).await.is_err());
        drop(busy);
        assert_about(time_to_timeout(&mut server).await, IDLE);
    }
}
