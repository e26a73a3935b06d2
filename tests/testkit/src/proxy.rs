//! A TCP proxy in front of a server that can be shut, can inject bytes from the server, and can
//! drop what clients send.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use warmq_types::server_url::ServerUrl;

use crate::error::Error;

/// Bytes at the beginning of a connection that are searched for its name, which AMQP clients send
/// in their second frame.
const GREETING_BYTES: usize = 4096;

/// Forwards connections to a server until it is shut. Ends with its handle.
pub struct Proxy {
    url: ServerUrl,
    open: Arc<Mutex<Option<JoinSet<()>>>>,
    injected: broadcast::Sender<Vec<u8>>,
    muted: Muted,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy of the server at `url`, on a free port of loopback.
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
        let (injected, _) = broadcast::channel(16);
        let muted = Muted::default();
        let forwarding = Forwarding {
            target: (host, target),
            injected: injected.clone(),
            muted: muted.clone(),
        };
        let accepting = tokio::spawn(accept(listener, forwarding, Arc::clone(&open)));
        Ok(Self {
            url: own,
            open,
            injected,
            muted,
            accepting,
        })
    }

    /// Returns the server's URL with the proxy's address.
    pub fn url(&self) -> ServerUrl {
        self.url.clone()
    }

    /// Sends `bytes` to all clients as if from the server, between two of its packets: the server
    /// must not be in mid-frame.
    pub fn inject(&self, bytes: &[u8]) {
        // Fails if no client is connected.
        let _ = self.injected.send(bytes.to_vec());
    }

    /// Drops what clients send on connections whose greeting contains `name`, which RabbitMQ lists
    /// as the connection's name. Data from the server still arrives. This cannot be undone, since
    /// part of a frame may be lost; it ends with the connections, as if their client had died.
    pub fn mute(&self, name: &str) {
        *lock(&self.muted.0) = Some(name.to_owned());
    }

    /// Breaks all connections and refuses new ones.
    pub fn shut(&self) {
        lock(&self.open).take();
    }

    /// Accepts new connections again.
    pub fn reopen(&self) {
        *lock(&self.open) = Some(JoinSet::new());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The context of every connection.
#[derive(Clone)]
struct Forwarding {
    target: (String, u16),
    injected: broadcast::Sender<Vec<u8>>,
    muted: Muted,
}

/// The name of connections whose client data is dropped.
#[derive(Clone, Default)]
struct Muted(Arc<Mutex<Option<String>>>);

impl Muted {
    fn is_named_in(&self, greeting: &[u8]) -> bool {
        let name = lock(&self.0);
        let greeting = String::from_utf8_lossy(greeting);
        name.as_ref().is_some_and(|name| greeting.contains(name))
    }
}

async fn accept(
    listener: TcpListener,
    forwarding: Forwarding,
    open: Arc<Mutex<Option<JoinSet<()>>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        // Shut: the client's connection is dropped.
        if let Some(connections) = lock(&open).as_mut() {
            let forwarding = forwarding.clone();
            let injected = forwarding.injected.subscribe();
            connections.spawn(async move {
                if let Ok(server) = TcpStream::connect(forwarding.target).await {
                    // Errors are expected: broken connections are what the proxy is for.
                    let _ = forward(client, server, injected, forwarding.muted).await;
                }
            });
        }
    }
}

/// Forwards until either side closes.
async fn forward(
    client: TcpStream,
    server: TcpStream,
    mut injected: broadcast::Receiver<Vec<u8>>,
    muted: Muted,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut greeting = Vec::new();
        loop {
            let bytes = from_client.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(());
            }
            let bytes_read = &buffer[..bytes];
            if greeting.len() < GREETING_BYTES {
                greeting.extend_from_slice(bytes_read);
            }
            if !muted.is_named_in(&greeting) {
                to_server.write_all(bytes_read).await?;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                read = from_server.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    bytes => to_client.write_all(&buffer[..bytes]).await?,
                },
                Ok(bytes_read) = injected.recv() => to_client.write_all(&bytes_read).await?,
            }
        }
    };
    tokio::select! {
        up = up => up,
        down = down => down,
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
