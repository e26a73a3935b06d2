//! Stops a cluster's processes in order.

use std::time::Duration;

use futures::future::join_all;
use warmq_testkit::{Router, Worker};

/// Timeout for stopping a process before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Stops all processes. Those that do not stop are killed when dropped.
pub async fn stop(router: &mut Router, workers: &mut [Worker]) {
    let workers = workers.iter_mut().map(|worker| &mut **worker);
    let processes = workers.chain([&mut **router]);
    join_all(processes.map(async |process| {
        if process.terminate().is_ok() {
            process.wait(STOP_TIMEOUT).await.ok();
        }
    }))
    .await;
}
