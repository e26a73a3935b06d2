//! Serves HTTP and HTTPS to clients that may be slow, gone or hostile.
//!
//! | module | content |
//! | --- | --- |
//! | `limits` | number of clients, and timeouts |
//! | `connection` | one connection: handshake, requests, end |
//! | `timeouts` | timeouts of a request's head and of idle connections |
//! | `request_body` | timeout and memory limit of a request's body |
//!
//! Each connection is a task of its own, including its TLS handshake, so none delays another. At
//! the stop signal the listener closes and clients find another router; accepted connections are
//! still served.

mod connection;
mod limits;

mod request_body;
mod timeouts;

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

pub use limits::ServerLimits;
pub(super) use request_body::Streamed;

use super::{Api, ApiError, routes};
use crate::memory::BodyMemory;
use crate::tls::Tls;
use connection::{Capacity, Service};

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
    limits: ServerLimits,
}

impl Server {
    /// Binds the address, for HTTPS only if `tls` is given.
    ///
    /// # Errors
    /// The address is in use, or not local.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Tls>,
        limits: ServerLimits,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: stop the program that uses it, or choose another --listen")
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
            served: Arc::new(Semaphore::new(limits.connections)),
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
                    tracing::error!(%error, "could not accept a connection");
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
            tracing::warn!("stopped before all responses were sent: their clients are too slow");
        }
    }
}

/// Handles incoming connections.
struct Acceptor {
    connections: TaskTracker,
    served: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    service: Service,
}

impl Acceptor {
    fn take(&self, stream: TcpStream) {
        let Some((capacity, permit)) = self.reserve() else {
            // Closed without a response, which would cost as much as a request.
            return;
        };
        prepare(&stream, self.service.limits.stalled);
        let service = self.service.clone();
        self.connections.spawn(async move {
            service.serve(stream, capacity).await;
            drop(permit);
        });
    }

    /// Reserves capacity for one connection; `None` even to refuse it.
    fn reserve(&self) -> Option<(Capacity, OwnedSemaphorePermit)> {
        let reserve = |capacity, permits: &Arc<Semaphore>| {
            let permit = Arc::clone(permits).try_acquire_owned().ok()?;
            Some((capacity, permit))
        };
        reserve(Capacity::Free, &self.served)
            .or_else(|| reserve(Capacity::Exhausted, &self.refusals))
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
