//! Limits per client: connections, time, memory.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that the process needs besides client connections: RabbitMQ, Redis, storage, logs.
const OTHER_FILES: u64 = 256;

/// Largest head of a request (its line and all headers), bytes. Eight times what proxies send on;
/// then 431.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// Maximum number of excess connections that receive a response; further ones are closed at once.
pub(super) const REFUSALS: usize = 64;

/// Limits of connections and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Timeout of a TLS handshake.
    pub handshake: Duration,
    /// How long a request's head may take, from its first byte on. A browser sends it in one
    /// packet.
    pub head: Duration,
    /// How long a connection may be silent before its first request and between two. More than the
    /// minute for which proxies and load balancers keep theirs, so that it is they who close: a
    /// request on its way could not be answered.
    pub idle: Duration,
    /// Timeout of a request's body, regardless of its size.
    pub body: Duration,
    /// Rate at which received bytes restore that time, bytes per second.
    pub body_rate: u64,
    /// Longest pause that a body can earn by fast transfer.
    pub body_pause: Duration,
    /// Total time to wait for a body.
    pub body_in_all: Duration,
    /// Bytes of bodies that may be in memory at a time, over all connections. Further ones receive
    /// 503: more memory than there is would end the process.
    pub bodies: u64,
    /// How long a client may take nothing of what it is sent; also, how long it may be gone (its
    /// machine off, its network cut) until that is noticed.
    pub stalled: Duration,
}

impl Limits {
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

    /// With no more connections than the system lets this process have open files, which it first
    /// lets have all it may: without a file left, the router could not reach its own servers.
    #[must_use]
    pub fn within_open_files(self) -> Self {
        let Some(files) = open_files() else {
            return self;
        };
        let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
        if most < self.connections {
            tracing::warn!(
                connections = most,
                open_files = files,
                "this process may open too few files (ulimit -n) for the connections it was to serve (--max-connections)"
            );
        }
        Self {
            connections: self.connections.min(most.max(1)),
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
