//! While a job runs: keeps its lease and the runner's, and notices when the job is no longer this runner's.

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use warmq_common::ids::{Epoch, Fence, JobId, RunnerId};

use crate::shared::Shared;

/// Renews until it is dropped.
pub struct LeaseKeeper(JoinHandle<()>);

impl LeaseKeeper {
    /// Starts renewing; `lost` is cancelled once the job is no longer this attempt's: it was cancelled, or the lease
    /// lapsed and somebody else has it.
    pub fn start(
        shared: &Shared,
        runner: &RunnerId,
        epoch: Epoch,
        job: JobId,
        fence: Fence,
        lost: CancellationToken,
    ) -> Self {
        let shared = shared.clone();
        let runner = runner.clone();
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(shared.pace.heartbeat);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, and the lease has just been taken.
            ticks.tick().await;
            let app = &shared.config.app;
            loop {
                ticks.tick().await;
                let lease = shared.pace.lease;
                match shared
                    .store
                    .renew(app, job, fence, shared.pace.lease_ms())
                    .await
                {
                    Ok(true) => {}
                    Ok(false) => {
                        lost.cancel();
                        return;
                    }
                    // The job goes on: its result is offered when Redis is back.
                    Err(error) => {
                        tracing::warn!(job.id = %job, %error, "could not renew a job's lease")
                    }
                }
                // False: the runner is registered no more. It joins again once this job is done.
                if let Err(error) = shared
                    .store
                    .heartbeat(app, &runner, epoch, lease, true)
                    .await
                {
                    tracing::warn!(%runner, %error, "a heartbeat failed");
                }
            }
        }))
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
