//! A door in front of a server, which a test can shut.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use warmq_common::config::ServerUrl;

use crate::error::Error;

/// Passes connections on to a server until it is shut. Ends with its handle.
pub struct Proxy {
    url: ServerUrl,
    open: Arc<Mutex<Option<JoinSet<()>>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy of the server at `url`, on a free port of this machine.
    ///
    /// # Errors
    /// The URL names no host and port, or there is no free port.
    pub async fn of(url: &ServerUrl) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(Error::io("a port for the proxy"))?;
        let port = listener
            .local_addr()
            .map_err(Error::io("the proxy's address"))?
            .port();
        let no_server = |url: &ServerUrl| Error::Setting {
            what: "the proxy's server",
            reason: format!("{url} names no host and port"),
        };
        let mut own = url.as_url().clone();
        let (Some(host), Some(target)) = (own.host_str().map(str::to_owned), own.port()) else {
            return Err(no_server(url));
        };
        own.set_port(Some(port)).map_err(|()| no_server(url))?;
        let own = own.as_str().parse().map_err(|_| no_server(url))?;
        let open = Arc::new(Mutex::new(Some(JoinSet::new())));
        let accepting = tokio::spawn(accept(listener, (host, target), Arc::clone(&open)));
        Ok(Self {
            url: own,
            open,
            accepting,
        })
    }

    /// The server's URL, with the proxy's address in it.
    pub fn url(&self) -> ServerUrl {
        self.url.clone()
    }

    /// Breaks all connections and lets none through.
    pub fn shut(&self) {
        lock(&self.open).take();
    }

    /// Lets new connections through again.
    pub fn reopen(&self) {
        *lock(&self.open) = Some(JoinSet::new());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: (String, u16),
    open: Arc<Mutex<Option<JoinSet<()>>>>,
) {
    while let Ok((mut client, _)) = listener.accept().await {
        let target = target.clone();
        // Shut: the client's connection is dropped.
        if let Some(connections) = lock(&open).as_mut() {
            connections.spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    // A broken pipe is what a proxy in a test is for.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    }
}

fn lock(open: &Mutex<Option<JoinSet<()>>>) -> MutexGuard<'_, Option<JoinSet<()>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
