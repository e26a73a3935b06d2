//! A request's body as it comes in: a client that sends it byte by byte is not waited for, and all that come in at a time are not
//! taken in beyond what memory is for.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Buf, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::limits::Limits;

/// Why a body was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Its time was over before it had come.
    TooSlow,
    /// Too much comes in already.
    TooMuch,
}

/// Where that is noted, for whoever answers: the handler only sees a body that broke.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<OnceLock<GivenUp>>);

impl Note {
    pub(super) fn read(&self) -> Option<GivenUp> {
        self.0.get().copied()
    }
}

/// Bytes of bodies that have come in and are not whole yet, over all connections.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<AtomicU64>);

/// A body that fails once it was waited for too long. Only waiting for the client counts, not what the reader does meanwhile.
pub(super) struct Arriving<B> {
    body: B,
    limits: Limits,
    received: u64,
    waited: Duration,
    /// Since when the next part is waited for, and until when it may be.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    under_way: UnderWay,
    note: Note,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, limits: Limits, under_way: UnderWay, note: Note) -> Self {
        Self {
            body,
            limits,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
            under_way,
            note,
        }
    }

    /// Notes a part that came; whether there is room for it.
    fn receive(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.received += bytes;
        let before = self.under_way.0.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= self.limits.bodies
    }

    fn give_up(&self, why: GivenUp) -> axum::BoxError {
        // The first reason stays.
        let _ = self.note.0.set(why);
        io::Error::other("the body was given up").into()
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
            if let Some(Ok(frame)) = &frame
                && !this.receive(frame.data_ref().map_or(0, Buf::remaining))
            {
                return Poll::Ready(Some(Err(this.give_up(GivenUp::TooMuch))));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.allowance().saturating_sub(this.waited);
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

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.under_way.0.fetch_sub(self.received, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let (note, under_way) = (Note::default(), UnderWay::default());
        let sent = Parts::from_stream(sent);
        let body = Arriving::new(sent, Limits::new(1), under_way.clone(), note.clone());
        let began = Instant::now();
        let read = axum::body::to_bytes(Parts::new(body), usize::MAX).await;
        assert_eq!(read.is_err(), note.read() == Some(GivenUp::TooSlow));
        assert_eq!(under_way.0.load(Ordering::Relaxed), 0);
        (began.elapsed(), read.is_ok())
    }

    #[tokio::test]
    async fn all_bodies_together_take_no_more_memory_than_there_is_for_them() {
        let limits = Limits {
            bodies: 2 * PART as u64,
            ..Limits::new(1)
        };
        let under_way = UnderWay::default();
        let arriving = |parts: usize, note: &Note| {
            let part = || Ok::<_, io::Error>(Bytes::from(vec![0; PART]));
            let sent = stream::iter(std::iter::repeat_with(part).take(parts));
            let sent = Parts::from_stream(sent.chain(stream::pending()));
            Arriving::new(sent, limits, under_way.clone(), note.clone())
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
}
