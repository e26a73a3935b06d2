//! A request's body as it comes in: a client that sends it byte by byte is not waited for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Buf, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::limits::Limits;

/// Whether the time for a body was over before it had come. Asked by whoever answers: the handler only sees a body that broke.
#[derive(Debug, Clone, Default)]
pub(super) struct TooSlow(Arc<AtomicBool>);

impl TooSlow {
    pub(super) fn was_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that fails once it was waited for too long. Only waiting for the client counts, not what the reader does meanwhile.
pub(super) struct Arriving<B> {
    body: B,
    limits: Limits,
    received: u64,
    waited: Duration,
    /// Since when the next part is waited for, and until when it may be.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    too_slow: TooSlow,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, limits: Limits, too_slow: TooSlow) -> Self {
        Self {
            body,
            limits,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
            too_slow,
        }
    }

    /// How long it may be waited for in all, as far as it has come.
    fn allowance(&self) -> Duration {
        let at_the_least_rate = self.received as f64 / self.limits.body_rate as f64;
        self.limits.body + Duration::from_secs_f64(at_the_least_rate)
    }
}

impl<B> Body for Arriving<B>
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
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                this.received += u64::try_from(bytes).unwrap_or(u64::MAX);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.allowance().saturating_sub(this.waited);
        let (_, until) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        match until.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                this.too_slow.0.store(true, Ordering::Relaxed);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the body came too slowly");
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body as Parts, Bytes};
    use futures::stream;

    const PART: usize = 1024;

    /// Reads `parts` of 1 KiB, one each `every`; how long it took, and whether all came.
    async fn arrives(parts: usize, every: Duration) -> (Duration, bool) {
        let sent = stream::unfold(0, move |sent| async move {
            if sent == parts {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok::<_, io::Error>(Bytes::from(vec![0; PART])), sent + 1))
        });
        let too_slow = TooSlow::default();
        let body = Arriving::new(Parts::from_stream(sent), Limits::new(1), too_slow.clone());
        let began = Instant::now();
        let read = axum::body::to_bytes(Parts::new(body), usize::MAX).await;
        assert_eq!(read.is_err(), too_slow.was_noted());
        (began.elapsed(), read.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_given_up() {
        let (took, all) = arrives(usize::MAX, Duration::from_secs(1)).await;
        assert!(!all);
        // 20 s, and a quarter of a second for each KiB that came.
        assert!((26..28).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_no_reason() {
        let (took, all) = arrives(10_000, Duration::from_millis(200)).await;
        assert!(all, "after {took:?}");
    }
}
