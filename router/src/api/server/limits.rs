//! Limits per client: connections, time, memory.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files besides client connections: RabbitMQ, Redis, storage, logs.
const OTHER_FILES: u64 = 256;

/// Maximum size of a request's head (line and headers), bytes: eight times that of proxies. Larger
/// ones receive 431.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// Maximum number of excess connections that receive a response; further ones are closed at once.
pub(super) const REFUSALS: usize = 64;

/// Limits of connections and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Timeout of a TLS handshake.
    pub handshake: Duration,
    /// Timeout of a request's head, from its first byte. Browsers send it in one packet.
    pub head: Duration,
    /// Timeout of an idle connection. Longer than the minute of proxies and load balancers, so that
    /// they close it, and no request arrives at a closed one.
    pub idle: Duration,
    /// Timeout of a request's body, regardless of its size.
    pub body: Duration,
    /// Rate at which received bytes restore that time, bytes per second.
    pub body_rate: u64,
    /// Longest pause that a body can earn by fast transfer.
    pub body_pause: Duration,
    /// Total time to wait for a body.
    pub body_in_all: Duration,
    /// Maximum size of all bodies in memory, bytes. Further ones receive 503.
    pub bodies: u64,
    /// Timeout of a client that receives nothing, or whose machine or network is down.
    pub stalled: Duration,
}

impl ServerLimits {
    /// Returns the defaults for `connections`.
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(20),
            body_rate: 4 * 1024,
            body_pause: Duration::from_secs(60),
            body_in_all: Duration::from_secs(6 * 3600),
            bodies: 1 << 30,
            stalled: Duration::from_secs(60),
        }
    }

    /// Reduces the connections to the system's limit of open files, which is raised first: without
    /// a free file, the router could not reach its servers.
    #[must_use]
    pub fn within_open_files(self) -> Self {
        let Some(files) = open_files() else {
            return self;
        };
        let max_connections =
            usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
        if max_connections < self.connections {
            tracing::warn!(
                connections = max_connections,
                open_files = files,
                "the limit of open files (ulimit -n) is too low for --max-connections"
            );
        }
        Self {
            connections: self.connections.min(max_connections.max(1)),
            ..self
        }
    }
}

/// Raises the limit of open files to the system's maximum, and returns it.
fn open_files() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(hard),
        Err(_) => Some(soft),
    }
}
