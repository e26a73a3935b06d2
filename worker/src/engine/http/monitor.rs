//! Probes the model server, so that its runners take jobs only while it is ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::server::Server;

/// Interval between probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Probes the server until it is stopped. Its process is restarted if it has not responded for
/// `hang_grace` since it was ready, or was not ready within the startup timeout.
pub(super) async fn watch(server: Arc<Server>, hang_grace: Duration) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let startup_timeout = server.options.startup_timeout();
    let mut process = Observed::new(server.starts(), startup_timeout);
    while (server.stop.run_until_cancelled(ticks.tick()).await).is_some() {
        // Otherwise the probe would wait for the job, in a server of one thread.
        if !server.is_full() {
            server.probe().await;
        }
        let starts = server.starts();
        if starts != process.starts {
            process = Observed::new(starts, startup_timeout);
        }
        // It may have been ready between two ticks only: a self-test probes it as well.
        let is_first = server.was_ready() && !process.was_ready;
        process.was_ready |= is_first;
        if server.is_ready() || is_first {
            process.ready_by = Instant::now() + hang_grace;
        } else if process.ready_by < Instant::now() {
            // Once: its successor has a deadline of its own.
            process.ready_by += startup_timeout;
            server.restart.notify_one();
        }
    }
}

/// A process of the server.
struct Observed {
    /// The number of processes that had been started.
    starts: u64,
    /// It is restarted if it is not ready by then.
    ready_by: Instant,
    /// Whether it was seen to have been ready.
    was_ready: bool,
}

impl Observed {
    fn new(starts: u64, startup_timeout: Duration) -> Self {
        Self {
            starts,
            ready_by: Instant::now() + startup_timeout,
            was_ready: false,
        }
    }
}
