//! A door in front of a server, which a test can shut.

use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use warmq_common::config::ServerUrl;

/// Passes connections on to a server until it is shut.
pub struct Proxy {
    url: ServerUrl,
    open: Arc<Mutex<Option<JoinSet<()>>>>,
}

impl Proxy {
    /// A proxy of the server at `url`.
    pub async fn of(url: &ServerUrl) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut own = url.as_url().clone();
        let target = (own.host_str().unwrap().to_owned(), own.port().unwrap());
        own.set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        let open = Arc::new(Mutex::new(Some(JoinSet::new())));
        let accepting = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                let mut open = accepting.lock().unwrap();
                // Shut: the client's connection is dropped.
                let Some(connections) = open.as_mut() else {
                    continue;
                };
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    // A broken pipe is what these tests are about.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            url: own.as_str().parse().unwrap(),
            open,
        }
    }

    pub fn url(&self) -> ServerUrl {
        self.url.clone()
    }

    /// Breaks all connections and lets none through.
    pub fn shut(&self) {
        self.open.lock().unwrap().take();
    }

    pub fn reopen(&self) {
        *self.open.lock().unwrap() = Some(JoinSet::new());
    }
}
