//! What all runners of a process share: the servers, and the pace of their lives.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_broker::{Publisher, Topology};
use warmq_objects::Artifacts;
use warmq_store::Store;

use crate::cancellations::Cancellations;
use crate::config::Config;
use crate::input_files::FileFetcher;

/// How often and how long, in a runner's life. The defaults are the ones that routers count on.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// How long a runner counts as alive after it was heard of, and a job as its own.
    pub lease: Duration,
    /// How often it is heard of.
    pub heartbeat: Duration,
    /// How long a job's message stays unacknowledged while it runs; then a copy takes its place.
    pub unacknowledged: Duration,
    /// How often an idle runner checks its models.
    pub model_check: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            heartbeat: Duration::from_secs(5),
            unacknowledged: Duration::from_secs(20 * 60),
            model_check: Duration::from_secs(30),
        }
    }
}

impl Intervals {
    /// The routers' pace, on a RabbitMQ that takes a message back after `consumer_timeout`.
    pub fn within(consumer_timeout: Duration) -> Self {
        Self {
            unacknowledged: consumer_timeout * 2 / 3,
            ..Self::default()
        }
    }

    /// The lease in ms.
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What all runners of a process share; cheap to clone.
#[derive(Clone)]
pub struct WorkerContext {
    /// The settings.
    pub config: Arc<Config>,
    /// Random id of this process.
    pub instance: Arc<str>,
    /// Redis.
    pub store: Store,
    /// A connection for publishing only: an alarm stalls it, and acknowledgements must not wait behind it.
    pub publisher: Publisher,
    /// Names and declarations.
    pub topology: Topology,
    /// Where files go.
    pub artifacts: Artifacts,
    /// Where the files come from that inputs name.
    pub file_fetcher: FileFetcher,
    /// What is heard of cancelled jobs.
    pub cancellations: Cancellations,
    /// How often and how long.
    pub intervals: Intervals,
    /// Take no more jobs.
    pub stop: CancellationToken,
    /// Give up on the running job too: the time to drain is over.
    pub give_up: CancellationToken,
}
