//! What all runners of a process share: servers, settings and intervals.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_broker::{Publisher, Topology};
use warmq_objects::ObjectStorage;
use warmq_store::Store;
use warmq_traces::Traces;

use crate::cancellations::Cancellations;
use crate::config::Config;
use crate::consume_channel::ConsumeChannel;
use crate::engine;
use crate::input_files::FileFetcher;
use crate::metrics::Metrics;

/// A runner's intervals and timeouts. Routers rely on the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Lease of a runner after its last heartbeat, and of its job.
    pub lease: Duration,
    /// Interval between heartbeats.
    pub heartbeat: Duration,
    /// How long a running job's message stays unacknowledged; then a copy in a retry tier replaces
    /// it.
    pub unacknowledged: Duration,
    /// Interval at which an idle runner checks its catalog.
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
    /// Creates the default intervals for a RabbitMQ that requeues messages after
    /// `consumer_timeout`.
    pub fn within(consumer_timeout: Duration) -> Self {
        Self {
            unacknowledged: consumer_timeout * 2 / 3,
            ..Self::default()
        }
    }

    /// Returns the lease in ms.
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
    /// A connection for publishing only: a RabbitMQ alarm blocks it, and acknowledgements must not
    /// wait for it.
    pub publisher: Publisher,
    /// Where the runners consume.
    pub consume_channel: ConsumeChannel,
    /// Names of queues and exchanges, and their declarations.
    pub topology: Topology,
    /// The storage for files.
    pub storage: ObjectStorage,
    /// Fetches the files that inputs name.
    pub file_fetcher: FileFetcher,
    /// What the engines share.
    pub shared: engine::Shared,
    /// The metrics of this process.
    pub metrics: Metrics,
    /// The traces of jobs.
    pub traces: Traces,
    /// The app's cancellations.
    pub cancellations: Cancellations,
    /// Intervals and timeouts.
    pub intervals: Intervals,
    /// Cancelled when the worker takes no further jobs.
    pub stop: CancellationToken,
    /// Cancelled when running jobs are abandoned: after the drain timeout.
    pub give_up: CancellationToken,
}
