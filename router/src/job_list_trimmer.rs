//! Removes ended jobs from the list of jobs when their retention is over.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_process::retry;
use warmq_store::Store;

/// Interval between trims; a longer one leaves more entries of expired jobs in Redis.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// Trims the list until `shutdown`. Several routers may do so at once.
pub(crate) async fn run(store: Store, shutdown: CancellationToken) -> anyhow::Result<()> {
    while let Some(more) = retry::until_success("trimming the list of jobs", &shutdown, || {
        store.job_list().trim()
    })
    .await
    {
        let wait = match more {
            true => Duration::ZERO,
            false => TRIM_INTERVAL,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}
