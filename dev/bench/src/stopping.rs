//! The end of a cluster's processes, in good order.

use std::time::Duration;

use futures::future::join_all;
use warmq_testkit::{Router, Worker};

/// How long a process may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks all processes to stop. Those that do not are killed as they are dropped.
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
