//! Limits of request bodies while they arrive: slow ones are aborted, and bodies that together
//! exceed the memory limit are refused.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use hyper::body::{Body, Buf, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::limits::ServerLimits;
use crate::memory::HeldBytes;

/// Reason why a body was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AbortReason {
    /// Its time was exceeded.
    TooSlow,
    /// The memory limit was reached.
    TooMuch,
}

/// Passes the reason to the response, since the handler only gets a failing body.
#[derive(Debug, Clone, Default)]
pub(super) struct ReasonCell(Arc<OnceLock<AbortReason>>);

impl ReasonCell {
    pub(super) fn get(&self) -> Option<AbortReason> {
        self.0.get().copied()
    }
}

/// A body that fails if its client is too slow, or memory is exhausted. Only waits for the client
/// count, not the time of the reader.
pub(super) struct LimitedBody<B> {
    body: B,
    limits: ServerLimits,
    /// Remaining time to wait for the client, extended by received bytes.
    time_left: Duration,
    /// Total time waited for the client.
    waited: Duration,
    /// Start and deadline of the current wait.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    held: HeldBytes,
    reason: ReasonCell,
}

impl<B> LimitedBody<B> {
    pub(super) fn new(body: B, limits: ServerLimits, held: HeldBytes, reason: ReasonCell) -> Self {
        Self {
            body,
            limits,
            time_left: limits.body,
            waited: Duration::ZERO,
            waiting: None,
            held,
            reason,
        }
    }

    /// Counts a received part. Returns whether memory is available.
    fn receive(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_secs_f64(bytes as f64 / self.limits.body_rate as f64);
        // The earned time is bounded: otherwise a fast client could then pause for hours.
        let max_left = self.time_left.max(self.limits.body_pause);
        self.time_left = self.time_left.saturating_add(earned).min(max_left);
        self.held.add(bytes) <= self.limits.bodies
    }

    fn abort(&self, why: AbortReason) -> axum::BoxError {
        // The first reason is kept.
        let _ = self.reason.0.set(why);
        io::Error::other("the body was aborted").into()
    }

    /// Ends a wait for the client.
    fn count_wait(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            let waited = since.elapsed();
            self.waited += waited;
            self.time_left = self.time_left.saturating_sub(waited);
        }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = B::Data;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.count_wait();
            if let Some(Ok(frame)) = &frame
                && !this.receive(frame.data_ref().map_or(0, Buf::remaining))
            {
                return Poll::Ready(Some(Err(this.abort(AbortReason::TooMuch))));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.limits.body_in_all.saturating_sub(this.waited);
        let left = left.min(this.time_left);
        let (_, until) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        match until.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(this.abort(AbortReason::TooSlow)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body that its handler streams through buffers of its own.
pub(in crate::api) struct Streamed(pub(in crate::api) axum::body::Body);

impl<S: Sync> FromRequest<S> for Streamed {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        if let Some(held) = request.extensions().get::<HeldBytes>() {
            held.pass_through(warmq_objects::WRITE_BUFFER_BYTES);
        }
        Ok(Self(request.into_body()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BodyMemory;
    use axum::body::{Body as Parts, Bytes};
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    const PART: usize = 1024;

    /// Reads `parts` of 1 KiB, one per `every`; returns the duration, and whether all arrived.
    async fn receive_parts(parts: usize, every: Duration) -> (Duration, bool) {
        let sent = stream::unfold(0, move |sent| async move {
            if sent == parts {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok::<_, io::Error>(Bytes::from(vec![0; PART])), sent + 1))
        });
        let (reason, memory) = (ReasonCell::default(), BodyMemory::default());
        let sent = Parts::from_stream(sent);
        let held = HeldBytes::new(memory.clone());
        let body = LimitedBody::new(sent, ServerLimits::new(1), held, reason.clone());
        let began = Instant::now();
        let read = axum::body::to_bytes(Parts::new(body), usize::MAX).await;
        assert_eq!(read.is_err(), reason.get() == Some(AbortReason::TooSlow));
        assert_eq!(memory.occupied(), 0);
        (began.elapsed(), read.is_ok())
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_together_is_bounded() {
        let limits = ServerLimits {
            bodies: 2 * PART as u64,
            ..ServerLimits::new(1)
        };
        let memory = BodyMemory::default();
        let arriving = |parts: usize, reason: &ReasonCell| {
            let part = || Ok::<_, io::Error>(Bytes::from(vec![0; PART]));
            let sent = stream::iter(std::iter::repeat_with(part).take(parts));
            let sent = Parts::from_stream(sent.chain(stream::pending()));
            let held = HeldBytes::new(memory.clone());
            LimitedBody::new(sent, limits, held, reason.clone())
        };
        let (first, second) = (ReasonCell::default(), ReasonCell::default());
        let mut held = arriving(1, &first);
        assert!(held.frame().await.unwrap().is_ok());
        let mut too_much = arriving(2, &second);
        assert!(too_much.frame().await.unwrap().is_ok());
        assert!(too_much.frame().await.unwrap().is_err());
        assert_eq!(
            (first.get(), second.get()),
            (None, Some(AbortReason::TooMuch))
        );
        drop(too_much);
        assert!(arriving(1, &first).frame().await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_aborted() {
        let (took, all) = receive_parts(usize::MAX, Duration::from_secs(1)).await;
        assert!(!all);
        // 20 s, and a quarter of a second for each KiB received.
        assert!((26..28).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_steady_body_is_received() {
        let (took, all) = receive_parts(10_000, Duration::from_millis(200)).await;
        assert!(all, "after {took:?}");
    }

    /// Reads the next part of a body whose parts arrive through a channel.
    async fn next(body: &mut LimitedBody<Parts>) -> Option<Result<(), AbortReason>> {
        let part = body.frame().await?;
        Some(part.map(drop).map_err(|_| body.reason.get().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sent_much_cannot_pause_for_long() {
        for every in [Duration::from_secs(24), Duration::from_secs(3600)] {
            let parts = stream::unfold(0, move |sent| async move {
                let bytes = if sent == 0 { 511 << 20 } else { 1 };
                tokio::time::sleep(if sent == 0 { Duration::ZERO } else { every }).await;
                Some((Ok::<_, io::Error>(Bytes::from(vec![0; bytes])), sent + 1))
            });
            let held = HeldBytes::new(BodyMemory::default());
            let parts = Parts::from_stream(parts);
            let mut body =
                LimitedBody::new(parts, ServerLimits::new(1), held, ReasonCell::default());
            let began = Instant::now();
            let aborted = loop {
                match next(&mut body).await {
                    Some(Ok(())) => {}
                    other => break other,
                }
            };
            assert_eq!(aborted, Some(Err(AbortReason::TooSlow)));
            assert!(began.elapsed() < Duration::from_secs(90), "{every:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_total_time_of_a_body_is_bounded() {
        let (took, all) = receive_parts(usize::MAX, Duration::from_millis(200)).await;
        assert!(!all);
        assert_eq!(took.as_secs() / 3600, 6, "{took:?}");
    }
}
