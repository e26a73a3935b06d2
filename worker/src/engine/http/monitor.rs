//! Probes the model server, so that its runners take jobs only while it is ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::server::Server;

/// Interval between probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Probes the server until it is stopped. The process of a server that was ready and has not
/// responded for `hang_grace` is restarted.
pub(super) async fn watch(server: Arc<Server>, hang_grace: Duration) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When it was ready last and its number of starts, unless its restart was requested since.
    let mut ready_at: Option<(Instant, u64)> = None;
    while (server.stop.run_until_cancelled(ticks.tick()).await).is_some() {
        // Otherwise the probe would wait for the job, in a server of one thread.
        if !server.is_full() {
            server.probe().await;
        }
        let starts = server.starts();
        match ready_at {
            _ if server.is_ready() => ready_at = Some((Instant::now(), starts)),
            // A new process may take its time to get ready.
            Some((_, started)) if started != starts => ready_at = None,
            Some((at, _)) if at.elapsed() > hang_grace => {
                ready_at = None;
                server.restart.notify_one();
            }
            Some(_) | None => {}
        }
    }
}
