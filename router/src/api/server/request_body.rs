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

use super::limits::Limits;
use crate::memory::HeldBytes;

/// Why a body was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Its time was exceeded.
    TooSlow,
    /// The memory limit was reached.
    TooMuch,
}

/// Reason for the response, since the handler only gets a failing body.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<OnceLock<GivenUp>>);

impl Note {
    pub(super) fn read(&self) -> Option<GivenUp> {
        self.0.get().copied()
    }
}

/// A body that fails if its client is too slow, or memory is exhausted. Only waits for the client
/// count, not the time of the reader.
pub(super) struct Arriving<B> {
    body: B,
    limits: Limits,
    /// Remaining time to wait for the client, restored by received bytes.
    patience: Duration,
    /// Total time waited for the client.
    waited: Duration,
    /// Start and deadline of the current wait.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    held: HeldBytes,
    note: Note,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, limits: Limits, held: HeldBytes, note: Note) -> Self {
        Self {
            body,
            limits,
            patience: limits.body,
            waited: Duration::ZERO,
            waiting: None,
            held,
            note,
        }
    }

    /// Counts a received part. Returns whether memory is available.
    fn receive(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_secs_f64(bytes as f64 / self.limits.body_rate as f64);
        // The earned time is bounded: otherwise a fast client could then pause for hours.
        let max_patience = self.patience.max(self.limits.body_pause);
        self.patience = self.patience.saturating_add(earned).min(max_patience);
        self.held.add(bytes) <= self.limits.bodies
    }

    fn give_up(&self, why: GivenUp) -> axum::BoxError {
        // The first reason is kept.
        let _ = self.note.0.set(why);
        io::Error::other("the body was given up").into()
    }

    /// Ends a wait for the client.
    fn count_wait(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            let waited = since.elapsed();
            self.waited += waited;
            self.patience = self.patience.saturating_sub(waited);
        }
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
            this.count_wait();
            if let Some(Ok(frame)) = &frame
                && !this.receive(frame.data_ref().map_or(0, Buf::remaining))
            {
                return Poll::Ready(Some(Err(this.give_up(GivenUp::TooMuch))));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.limits.body_in_all.saturating_sub(this.waited);
        let left = left.min(this.patience);
        let (_, until) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        match until.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(this.give_up(GivenUp::TooSlow)))),
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

    /// Reads `parts` of 1 KiB, one each `every`; how long it took, and whether all came.
    async fn arrives(parts: usize, every: Duration) -> (Duration, bool) {
        let sent = stream::unfold(0, move |sent| async move {
            if sent == parts {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok::<_, io::Error>(Bytes::from(vec![0; PART])), sent + 1))
        });
        let (note, memory) = (Note::default(), BodyMemory::default());
        let sent = Parts::from_stream(sent);
        let held = HeldBytes::new(memory.clone());
        let body = Arriving::new(sent, Limits::new(1), held, note.clone());
        let began = Instant::now();
        let read = axum::body::to_bytes(Parts::new(body), usize::MAX).await;
        assert_eq!(read.is_err(), note.read() == Some(GivenUp::TooSlow));
        assert_eq!(memory.occupied(), 0);
        (began.elapsed(), read.is_ok())
    }

    #[tokio::test]
    async fn all_bodies_together_take_no_more_memory_than_there_is_for_them() {
        let limits = Limits {
            bodies: 2 * PART as u64,
            ..Limits::new(1)
        };
        let memory = BodyMemory::default();
        let arriving = |parts: usize, note: &Note| {
            let part = || Ok::<_, io::Error>(Bytes::from(vec![0; PART]));
            let sent = stream::iter(std::iter::repeat_with(part).take(parts));
            let sent = Parts::from_stream(sent.chain(stream::pending()));
            let held = HeldBytes::new(memory.clone());
            Arriving::new(sent, limits, held, note.clone())
        };
        let (first, second) = (Note::default(), Note::default());
        let mut held = arriving(1, &first);
        assert!(held.frame().await.unwrap().is_ok());
        let mut too_much = arriving(2, &second);
        assert!(too_much.frame().await.unwrap().is_ok());
        assert!(too_much.frame().await.unwrap().is_err());
        assert_eq!(
            (first.read(), second.read()),
            (None, Some(GivenUp::TooMuch))
        );
        drop(too_much);
        assert!(arriving(1, &first).frame().await.unwrap().is_ok());
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

    /// Reads the next part of a body whose parts arrive through a channel.
    async fn next(body: &mut Arriving<Parts>) -> Option<Result<(), GivenUp>> {
        let part = body.frame().await?;
        Some(part.map(drop).map_err(|_| body.note.read().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sent_much_may_not_hold_it_for_long() {
        for every in [Duration::from_secs(24), Duration::from_secs(3600)] {
            let parts = stream::unfold(0, move |sent| async move {
                let bytes = if sent == 0 { 511 << 20 } else { 1 };
                tokio::time::sleep(if sent == 0 { Duration::ZERO } else { every }).await;
                Some((Ok::<_, io::Error>(Bytes::from(vec![0; bytes])), sent + 1))
            });
            let held = HeldBytes::new(BodyMemory::default());
            let parts = Parts::from_stream(parts);
            let mut body = Arriving::new(parts, Limits::new(1), held, Note::default());
            let began = Instant::now();
            let given_up = loop {
                match next(&mut body).await {
                    Some(Ok(())) => {}
                    other => break other,
                }
            };
            assert_eq!(given_up, Some(Err(GivenUp::TooSlow)));
            assert!(began.elapsed() < Duration::from_secs(90), "{every:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_body_is_waited_for_without_end() {
        let (took, all) = arrives(usize::MAX, Duration::from_millis(200)).await;
        assert!(!all);
        assert_eq!(took.as_secs() / 3600, 6, "{took:?}");
    }
}
