//! Serves HTTP, and HTTPS, to clients of which some are slow, some are gone, and some mean harm.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `limits` | how many clients, and how slow each may be |
//! | `connection` | one connection: handshake, requests, end |
//! | `patience` | time for a request's head, and for silence between requests |
//! | `arrival` | time and memory for a request's body |
//!
//! Each connection is a task of its own, its TLS handshake in it: none keeps another from being
//! accepted. At the signal to stop nobody listens at the address any more, and clients find another
//! router; what came in before is still served.

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

/// How long after the signal to stop a connection that was taken may say what it wants: one that
/// has not spoken yet, or is kept alive between two requests, would else be closed on a request
/// that is on its way.
const LAST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// Connections that the system takes for us until we accept them; more than it really does.
const BACKLOG: usize = 4096;

/// How long nobody is accepted after that failed for want of files or memory: at once it would fail
/// again.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

type Routes = NormalizePath<Router>;

/// A bound address, not yet served.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
}

impl Server {
    /// Takes the address. With `tls`, HTTPS alone is spoken there.
    ///
    /// # Errors
    /// It is taken, or not this machine's.
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

    /// The address, its port chosen by the system if 0 was asked for.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `shutdown`, then finishes the answers under way, for `drain_timeout` at most: a
    /// client may be silent for ever.
    ///
    /// # Errors
    /// The socket broke.
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
        // For whoever started us with port 0, and waits for us to be ready.
        println!("listening on {scheme}://{address}");
        self.serve(routes(api)?, drain_timeout, shutdown).await;
        Ok(())
    }

    async fn serve(self, routes: Router, drain_timeout: Duration, shutdown: CancellationToken) {
        let limits = self.limits.within_open_files();
        let closing = CancellationToken::new();
        let door = Acceptor {
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
                Ok((stream, _)) => door.take(stream),
                // The client's doing: it was gone before we came.
                Err(error) if is_clients(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        // Connections that wait already come in: closing the door would break them.
        for _ in 0..BACKLOG {
            let waiting = poll_fn(|cx| match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
            });
            match waiting.await {
                Some(stream) => door.take(stream),
                None => break,
            }
        }
        drop(self.listener);
        door.connections.close();
        let drained = async {
            let last_requests = LAST_REQUEST_GRACE.min(drain_timeout);
            if (tokio::time::timeout(last_requests, door.connections.wait()).await).is_err() {
                closing.cancel();
                door.connections.wait().await;
            }
        };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!("stopping without some answers: their clients are too slow");
        }
    }
}

/// What is done with a connection when it comes.
struct Acceptor {
    connections: TaskTracker,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    service: Service,
}

impl Acceptor {
    fn take(&self, stream: TcpStream) {
        let Some((admission, permit)) = self.admission() else {
            // Not even a refusal: it would take as much as an answer.
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

/// Has the system look after a connection. What it cannot do here it does not do: answers are
/// later, or clients that are gone are noticed later.
fn prepare(stream: &TcpStream, stalled: Duration) {
    // Small answers must not wait for more data.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    // A client that waits for its job is silent, and so are we; whether it is still there has to be
    // asked.
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
