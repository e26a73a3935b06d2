//! One connection, from handshake to close.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::limits::{HEAD_BYTES, ServerLimits};
use super::request_body::{AbortReason, LimitedBody, ReasonCell};
use super::timeouts::{Busy, ConnectionState, TimeoutStream};
use super::{ApiError, Routes};
use crate::api::endpoint_ids;
use crate::memory::{BodyMemory, HeldBytes};

/// Service of a connection, with its limits.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) routes: Routes,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: ServerLimits,
    pub(super) memory: BodyMemory,
    /// Cancelled when no further request is accepted.
    pub(super) closing: CancellationToken,
}

/// Capacity for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capacity {
    /// It is served.
    Free,
    /// It receives 503 with Retry-After, since the maximum is being served.
    Exhausted,
}

impl Service {
    /// Serves a connection until it closes.
    pub(super) async fn serve(self, stream: TcpStream, capacity: Capacity) {
        let Some(acceptor) = &self.tls else {
            return self.serve_http(stream, capacity).await;
        };
        let handshake = tokio::time::timeout(self.limits.handshake, acceptor.accept(stream));
        tokio::select! {
            // No request would be served after it.
            () = self.closing.cancelled() => {}
            result = handshake => match result {
                Ok(Ok(stream)) => self.serve_http(stream, capacity).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake timed out"),
            },
        }
    }

    async fn serve_http<S>(&self, stream: S, capacity: Capacity)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ServerLimits { head, idle, .. } = self.limits;
        let activity = ConnectionState::default();
        let stream = TimeoutStream::new(stream, activity.clone(), head, idle);
        let service = service_fn(|request| self.answer(request, capacity, activity.busy()));
        // HTTP/1.1 only: detecting HTTP/2 would wait without a timeout, and fal's clients do not
        // use it.
        let mut connection = pin!(
            http1::Builder::new()
                .max_header_size(HEAD_BYTES)
                .keep_alive(capacity == Capacity::Free)
                .serve_connection(TokioIo::new(stream), service)
        );
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection failed");
        }
    }

    /// Responds to one request; dropped when its client disconnects.
    async fn answer(
        &self,
        request: Request<Incoming>,
        capacity: Capacity,
        busy: Busy,
    ) -> Result<Response, Infallible> {
        // Liveness checks are served even at the maximum, so that a busy process is not killed.
        if capacity == Capacity::Exhausted && request.uri().path() != "/healthz" {
            return Ok(ApiError::too_many_connections().into_response());
        }
        let reason = ReasonCell::default();
        let held = HeldBytes::new(self.memory.clone());
        let mut request = request.map(|body| {
            Body::new(LimitedBody::new(
                body,
                self.limits,
                held.clone(),
                reason.clone(),
            ))
        });
        request.extensions_mut().insert(held);
        let routes = self.routes.clone();
        let response = routes.oneshot(endpoint_ids::resolved(request)).await?;
        Ok(match reason.get() {
            Some(AbortReason::TooSlow) => ApiError::too_slow().into_response(),
            Some(AbortReason::TooMuch) => ApiError::too_many_bodies().into_response(),
            None => response.map(|body| Body::new(BusyBody { body, _busy: busy })),
        })
    }
}

/// A response's body; the connection is busy until it is sent.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
