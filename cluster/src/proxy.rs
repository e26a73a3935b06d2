//! A door in front of a server, which a test can shut, and through which it can put words into the server's mouth.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use warmq_common::config::ServerUrl;

use crate::error::Error;

/// Passes connections on to a server until it is shut. Ends with its handle.
pub struct Proxy {
    url: ServerUrl,
    open: Arc<Mutex<Option<JoinSet<()>>>>,
    words: broadcast::Sender<Vec<u8>>,
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
        let (words, _) = broadcast::channel(16);
        let accepting = accept(listener, (host, target), Arc::clone(&open), words.clone());
        let accepting = tokio::spawn(accepting);
        Ok(Self {
            url: own,
            open,
            words,
            accepting,
        })
    }

    /// The server's URL, with the proxy's address in it.
    pub fn url(&self) -> ServerUrl {
        self.url.clone()
    }

    /// Sends `bytes` to all clients as if the server had: between two packets of it, so while it is not in mid-sentence.
    pub fn say(&self, bytes: &[u8]) {
        // No client is connected: nobody hears it.
        let _ = self.words.send(bytes.to_vec());
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
    words: broadcast::Sender<Vec<u8>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let target = target.clone();
        // Shut: the client's connection is dropped.
        if let Some(connections) = lock(&open).as_mut() {
            let words = words.subscribe();
            connections.spawn(async move {
                if let Ok(server) = TcpStream::connect(target).await {
                    // A broken pipe is what a proxy in a test is for.
                    let _ = pass_on(client, server, words).await;
                }
            });
        }
    }
}

/// Until either side is gone.
async fn pass_on(
    client: TcpStream,
    server: TcpStream,
    mut words: broadcast::Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                read = from_server.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    bytes => to_client.write_all(&buffer[..bytes]).await?,
                },
                Ok(said) = words.recv() => to_client.write_all(&said).await?,
            }
        }
    };
    tokio::select! {
        up = tokio::io::copy(&mut from_client, &mut to_server) => up.map(drop),
        down = down => down,
    }
}

fn lock(open: &Mutex<Option<JoinSet<()>>>) -> MutexGuard<'_, Option<JoinSet<()>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
