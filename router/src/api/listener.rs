//! The door for connections: closed at the signal to stop, while those that came in before are still served.

use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Takes connections until `shutdown`. Then nobody listens at the address any more, and clients find another router.
pub(super) struct Closing {
    open: Option<TcpListener>,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Closing {
    /// # Errors
    /// The socket is gone.
    pub(super) fn new(open: TcpListener, shutdown: CancellationToken) -> std::io::Result<Self> {
        Ok(Self {
            address: open.local_addr()?,
            open: Some(open),
            shutdown,
        })
    }
}

impl Listener for Closing {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(open) = &mut self.open {
            tokio::select! {
                // Connections that wait already come in: closing the door would break them.
                biased;
                accepted = Listener::accept(open) => return accepted,
                () = self.shutdown.cancelled() => self.open = None,
            }
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}
