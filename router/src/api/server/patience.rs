//! Timeouts of a connection: it is closed if a request's head stalls, or if it is idle for long
//! between requests.

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
enum Phase {
    /// Idle: just opened, or waiting for the next request.
    Quiet,
    /// A request's head is arriving.
    Head,
    /// A request is being handled; no timeout applies.
    Busy,
}

/// State shared by the stream and the handlers of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// Waker of the stream's reader: hyper does not poll it after a response, when the idle timeout
    /// begins.
    waiting: AtomicWaker,
}

impl Activity {
    /// Marks a request as being handled while the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.set(Phase::Busy);
        Busy(self.clone())
    }

    fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            busy if busy == Phase::Busy as u8 => Phase::Busy,
            head if head == Phase::Head as u8 => Phase::Head,
            _ => Phase::Quiet,
        }
    }
}

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.set(Phase::Quiet);
        activity.0.waiting.wake();
    }
}

/// A stream that fails at the timeouts of its phases.
pub(super) struct Patient<S> {
    stream: S,
    activity: Activity,
    head: Duration,
    idle: Duration,
    /// Phase of the deadline `until`.
    seen: Phase,
    until: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    /// Returns a stream with the timeouts of a request's head and of an idle connection.
    pub(super) fn new(stream: S, activity: Activity, head: Duration, idle: Duration) -> Self {
        Self {
            stream,
            activity,
            head,
            idle,
            seen: Phase::Quiet,
            until: Box::pin(tokio::time::sleep(idle)),
        }
    }

    /// Returns whether the current phase has timed out.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = self.activity.phase();
        let limit = match phase {
            Phase::Busy => None,
            Phase::Head => Some(self.head),
            Phase::Quiet => Some(self.idle),
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

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.activity.0.waiting.register(cx.waker());
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.activity.phase() == Phase::Quiet {
            self.activity.set(Phase::Head);
        }
        match self.is_over(cx) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
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

    fn connection() -> (DuplexStream, Patient<DuplexStream>, Activity) {
        let (client, server) = tokio::io::duplex(64);
        let activity = Activity::default();
        let patient = Patient::new(server, activity.clone(), HEAD, IDLE);
        (client, patient, activity)
    }

    /// Waits for the next byte; returns the time until the timeout.
    async fn patience(server: &mut Patient<DuplexStream>) -> Duration {
        let began = Instant::now();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    /// tokio's timers are exact to a ms.
    fn assert_about(measured: Duration, expected: Duration) {
        assert!(
            measured.abs_diff(expected) < Duration::from_millis(5),
            "{measured:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_borne_longer_than_half_a_request() {
        let (_client, mut server, _) = connection();
        assert_about(patience(&mut server).await, IDLE);
        let (mut client, mut server, _) = connection();
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'G');
        assert_about(patience(&mut server).await, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_begins_after_a_response() {
        let (mut client, mut server, activity) = connection();
        client.write_all(b"G").await.unwrap();
        server.read_u8().await.unwrap();
        let busy = activity.busy();
        let waiting = tokio::spawn(async move { patience(&mut server).await });
        tokio::task::yield_now().await;
        drop(busy);
        assert_about(waiting.await.unwrap(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_trickle_in_gain_no_time() {
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
    async fn an_answer_may_take_as_long_as_it_takes_and_then_there_is_time_for_the_next_request() {
        let (mut client, mut server, activity) = connection();
        client.write_all(b"G").await.unwrap();
        server.read_u8().await.unwrap();
        let busy = activity.busy();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, server.read_u8()).await.is_err());
        drop(busy);
        assert_about(patience(&mut server).await, IDLE);
    }
}
