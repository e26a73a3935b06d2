//! Serves HTTP and HTTPS to clients that may be slow, gone or hostile.
//!
//! | module | content |
//! | --- | --- |
//! | `limits` | number of clients, and timeouts |
//! | `connection` | one connection: handshake, requests, end |
//! | `patience` | timeouts of a request's head and of idle connections |
//! | `request_body` | timeout and memory limit of a request's body |
//!
//! Each connection is a task of its own, including its TLS handshake, so none delays another. At
//! the stop signal the listener closes and clients find another router; accepted connections are
//! still served.

mod connection;
mod limits;
mod patience;
mod request_body;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;
use tower_http::normalize_path::{NormalizePath, NormalizePathLayer};

pub use limits::Limits;
pub(super) use request_body::Streamed;

use super::{Api, ApiError, routes};
use crate::memory::BodyMemory;
use crate::tls::Tls;
use connection::{Admission, Service};

/// How long after the stop signal an accepted connection may send a request. Closing an idle or new
/// connection at once would break a request on its way.
const LAST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// Backlog of the listening socket.
const BACKLOG: usize = 4096;

/// Delay of accepting connections after a failure for lack of files or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

type Routes = NormalizePath<Router>;

/// A bound listener, not yet served.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
}

impl Server {
    /// Binds the address, for HTTPS only if `tls` is given.
    ///
    /// # Errors
    /// The address is in use, or not local.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Tls>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("{address} cannot be listened on; is another router running? (--listen)")
        })?;
        Ok(Self {
            listener,
            tls,
            limits,
        })
    }

    /// Returns the bound address, with the port that the system chose for 0.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `shutdown`, then completes requests in progress for at most `drain_timeout`,
    /// since a client may never send.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn run(
        self,
        api: Api,
        drain_timeout: Duration,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let address = self.address()?;
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        tracing::info!(%address, public_url = %api.public_url, "serving {}", scheme.to_uppercase());
        // Read by programs that start a router with port 0 and wait until it is ready.
        println!("listening on {scheme}://{address}");
        self.serve(routes(api)?, drain_timeout, shutdown).await;
        Ok(())
    }

    async fn serve(self, routes: Router, drain_timeout: Duration, shutdown: CancellationToken) {
        let limits = self.limits.within_open_files();
        let closing = CancellationToken::new();
        let acceptor = Acceptor {
            connections: TaskTracker::new(),
            places: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(limits::REFUSALS)),
            service: Service {
                routes: NormalizePathLayer::trim_trailing_slash().layer(routes),
                tls: self.tls.map(|tls| TlsAcceptor::from(tls.config())),
                limits,
                memory: BodyMemory::default(),
                closing: closing.clone(),
            },
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => acceptor.take(stream),
                // The client disconnected before the accept.
                Err(error) if is_clients(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        // Accept the connections in the backlog: closing the listener would reset them.
        for _ in 0..BACKLOG {
            let waiting = poll_fn(|cx| match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
            });
            match waiting.await {
                Some(stream) => acceptor.take(stream),
                None => break,
            }
        }
        drop(self.listener);
        acceptor.connections.close();
        let drained = async {
            let last_requests = LAST_REQUEST_GRACE.min(drain_timeout);
            if (tokio::time::timeout(last_requests, acceptor.connections.wait()).await).is_err() {
                closing.cancel();
                acceptor.connections.wait().await;
            }
        };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!("stopping without some answers: their clients are too slow");
        }
    }
}

/// Handles incoming connections.
struct Acceptor {
    connections: TaskTracker,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    service: Service,
}

impl Acceptor {
    fn take(&self, stream: TcpStream) {
        let Some((admission, permit)) = self.admission() else {
            // Closed without a response, which would cost as much as a request.
            return;
        };
        prepare(&stream, self.service.limits.stalled);
        let service = self.service.clone();
        self.connections.spawn(async move {
            service.serve(stream, admission).await;
            drop(permit);
        });
    }

    fn admission(&self) -> Option<(Admission, OwnedSemaphorePermit)> {
        let admission = |admission, permits: &Arc<Semaphore>| {
            let permit = Arc::clone(permits).try_acquire_owned().ok()?;
            Some((admission, permit))
        };
        admission(Admission::Free, &self.places)
            .or_else(|| admission(Admission::None, &self.refusals))
    }
}

/// Sets socket options. Failures are harmless: responses become slower, or dead clients are
/// detected later.
fn prepare(stream: &TcpStream, stalled: Duration) {
    // Small responses must not wait for more data.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    // A client that waits for its job sends nothing, and neither does the router: keepalive detects
    // whether it is still connected.
    let asking = TcpKeepalive::new()
        .with_time(stalled / 2)
        .with_interval(stalled / 6);
    let _ = socket.set_tcp_keepalive(&asking);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(stalled));
}

fn is_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests;
