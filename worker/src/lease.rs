//! Renews a running job's lease and its runner's, and detects their loss. A job that was started
//! without Redis is recorded, and gets its lease, once Redis is reachable.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use warmq_process::clock::unix_ms;
use warmq_store::OutageStart;
use warmq_types::attempt::Lease;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::JobSpec;

use crate::context::WorkerContext;

/// Interval at which a job without a lease tries to get one.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A started attempt, whether or not Redis has recorded it.
#[derive(Clone)]
pub struct StartedAttempt {
    /// The runner.
    pub runner: RunnerId,
    /// The runner's epoch.
    pub epoch: Epoch,
    /// The job.
    pub job: JobSpec,
    /// When it started.
    pub since: Instant,
}

impl StartedAttempt {
    /// Returns the time since the start, ms.
    fn ago_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the start by this machine's clock, Unix ms.
    pub fn since_ms(&self) -> u64 {
        unix_ms().saturating_sub(self.ago_ms())
    }

    /// Records the start in Redis. Returns `None` if the job ended or another runner has it, so
    /// that the attempt does not count.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn record_start(
        &self,
        context: &WorkerContext,
    ) -> Result<Option<Lease>, warmq_store::Error> {
        let start = OutageStart {
            job: &self.job,
            runner: &self.runner,
            epoch: self.epoch,
            ago_ms: self.ago_ms(),
            lease_ms: context.intervals.lease_ms(),
        };
        context.store.outage_attempts().begin(&start).await
    }
}

/// Renews the leases until dropped.
pub struct LeaseKeeper {
    task: JoinHandle<()>,
    lease: watch::Receiver<Option<Lease>>,
}

impl LeaseKeeper {
    /// Starts to renew `lease`, or to acquire one. `lost` is cancelled once the job is no longer
    /// this attempt's: it was cancelled, or the lease lapsed.
    pub fn start(
        context: &WorkerContext,
        started: &StartedAttempt,
        lease: Option<Lease>,
        lost: CancellationToken,
    ) -> Self {
        let (given, lease) = watch::channel(lease);
        let (context, started) = (context.clone(), started.clone());
        let task = tokio::spawn(async move {
            if !renew_until_lost(&context, &started, &given).await {
                lost.cancel();
            }
        });
        Self { task, lease }
    }

    /// Returns a receiver of the lease, which is `None` until there is one.
    pub fn lease(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.clone()
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews the lease; returns once the job is no longer this attempt's.
async fn renew_until_lost(
    context: &WorkerContext,
    started: &StartedAttempt,
    given: &watch::Sender<Option<Lease>>,
) -> bool {
    let (app, job) = (&started.job.app, started.job.id);
    let known = *given.borrow();
    let lease = match known {
        Some(lease) => lease,
        None => match acquire(context, started).await {
            Some(lease) => {
                given.send_replace(Some(lease));
                lease
            }
            None => return false,
        },
    };
    let mut ticks = tokio::time::interval(context.intervals.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and the lease is fresh.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let lease_ms = context.intervals.lease_ms();
        match context
            .store
            .attempts()
            .renew(app, job, lease.fence, lease_ms)
            .await
        {
            Ok(true) => {}
            Ok(false) => return false,
            // The run continues; its result is stored once Redis is reachable.
            Err(error) => tracing::warn!(job.id = %job, %error, "could not renew the job's lease"),
        }
        // False if the runner is no longer registered. It joins again after this job.
        let (runner, epoch) = (&started.runner, started.epoch);
        let alive = (context.store).membership().heartbeat(
            app,
            runner,
            epoch,
            context.intervals.lease,
            true,
        );
        if let Err(error) = alive.await {
            tracing::warn!(%runner, %error, "a heartbeat failed");
        }
    }
}

/// Acquires a lease once Redis is reachable. Returns `None` if the job is no longer this attempt's.
async fn acquire(context: &WorkerContext, started: &StartedAttempt) -> Option<Lease> {
    loop {
        tokio::time::sleep(LEASE_RETRY_INTERVAL).await;
        match started.record_start(context).await {
            Ok(lease) => return lease,
            Err(error) => {
                tracing::debug!(job.id = %started.job.id, %error, "the job still runs without a lease");
            }
        }
    }
}
