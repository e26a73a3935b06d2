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

use super::limits::{HEAD_BYTES, Limits};
use super::patience::{Activity, Busy, Patient};
use super::request_body::{Arriving, GivenUp, Note};
use super::{ApiError, Routes};
use crate::api::namespaces;
use crate::memory::{BodyMemory, HeldBytes};

/// Service of a connection, with its limits.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) routes: Routes,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) memory: BodyMemory,
    /// Cancelled when no further request is accepted.
    pub(super) closing: CancellationToken,
}

/// Admission of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is served.
    Free,
    /// It receives 503 with Retry-After, since the maximum is being served.
    None,
}

impl Service {
    /// Serves a connection until it closes.
    pub(super) async fn serve(self, stream: TcpStream, admission: Admission) {
        let Some(acceptor) = &self.tls else {
            return self.serve_http(stream, admission).await;
        };
        let handshake = tokio::time::timeout(self.limits.handshake, acceptor.accept(stream));
        tokio::select! {
            // No request would be served after it.
            () = self.closing.cancelled() => {}
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => self.serve_http(stream, admission).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            },
        }
    }

    async fn serve_http<S>(&self, stream: S, admission: Admission)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Limits { head, idle, .. } = self.limits;
        let activity = Activity::default();
        let stream = Patient::new(stream, activity.clone(), head, idle);
        let service = service_fn(|request| self.answer(request, admission, activity.busy()));
        // HTTP/1.1 only: detecting HTTP/2 would wait without a timeout, and fal's clients do not
        // use it.
        let mut connection = pin!(
            http1::Builder::new()
                .max_header_size(HEAD_BYTES)
                .keep_alive(admission == Admission::Free)
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
            tracing::debug!(%error, "a connection broke");
        }
    }

    /// Responds to one request; dropped when its client disconnects.
    async fn answer(
        &self,
        request: Request<Incoming>,
        admission: Admission,
        busy: Busy,
    ) -> Result<Response, Infallible> {
        // Liveness checks are served even at the maximum, so that a busy process is not killed.
        if admission == Admission::None && request.uri().path() != "/healthz" {
            return Ok(ApiError::too_many_connections().into_response());
        }
        let note = Note::default();
        let held = HeldBytes::new(self.memory.clone());
        let mut request = request
            .map(|body| Body::new(Arriving::new(body, self.limits, held.clone(), note.clone())));
        request.extensions_mut().insert(held);
        let routes = self.routes.clone();
        let response = routes.oneshot(namespaces::resolved(request)).await?;
        Ok(match note.read() {
            Some(GivenUp::TooSlow) => ApiError::too_slow().into_response(),
            Some(GivenUp::TooMuch) => ApiError::too_many_bodies().into_response(),
            None => response.map(|body| Body::new(Leaving { body, _busy: busy })),
        })
    }
}

/// A response's body; the connection is busy until it is sent.
struct Leaving {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Leaving {
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
