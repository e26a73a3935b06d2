//! While a job runs: keeps its lease and the runner's, and notices when the job is no longer this runner's. A job that began
//! without Redis gets its lease as soon as Redis is back.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use warmq_process::clock::unix_ms;
use warmq_store::DeferredStart;
use warmq_types::attempt::Lease;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::JobSpec;

use crate::context::WorkerContext;

/// How often a job without lease asks whether Redis is back.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// An attempt as its runner knows it, whether or not Redis does.
#[derive(Clone)]
pub struct StartedAttempt {
    /// Who runs it.
    pub runner: RunnerId,
    /// In which incarnation.
    pub epoch: Epoch,
    /// What runs.
    pub job: JobSpec,
    /// Since when.
    pub since: Instant,
}

impl StartedAttempt {
    /// How long ago it began, ms.
    fn ago_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When it began, by this machine's clock, Unix ms.
    pub fn since_ms(&self) -> u64 {
        unix_ms().saturating_sub(self.ago_ms())
    }

    /// Tells Redis that the attempt began. `None`: its job ended or is somebody else's, so it counts for nothing.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn record_start(
        &self,
        context: &WorkerContext,
    ) -> Result<Option<Lease>, warmq_store::Error> {
        let start = DeferredStart {
            job: &self.job,
            runner: &self.runner,
            epoch: self.epoch,
            ago_ms: self.ago_ms(),
            lease_ms: context.intervals.lease_ms(),
        };
        context.store.begin_late(&start).await
    }
}

/// Keeps the leases until it is dropped.
pub struct LeaseKeeper {
    task: JoinHandle<()>,
    lease: watch::Receiver<Option<Lease>>,
}

impl LeaseKeeper {
    /// Starts to keep `lease`, or to ask for one. `lost` is cancelled once the job is no longer this attempt's: it was
    /// cancelled, or the lease lapsed and somebody else has it.
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

    /// The lease, once there is one.
    pub fn lease(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.clone()
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// False once the job is no longer this attempt's.
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
    // The first tick comes at once, and the lease has just been taken.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let lease_ms = context.intervals.lease_ms();
        match context.store.renew(app, job, lease.fence, lease_ms).await {
            Ok(true) => {}
            Ok(false) => return false,
            // The job goes on: its result is offered when Redis is back.
            Err(error) => tracing::warn!(job.id = %job, %error, "could not renew a job's lease"),
        }
        // False: the runner is registered no more. It joins again once this job is done.
        let (runner, epoch) = (&started.runner, started.epoch);
        let alive = (context.store).heartbeat(app, runner, epoch, context.intervals.lease, true);
        if let Err(error) = alive.await {
            tracing::warn!(%runner, %error, "a heartbeat failed");
        }
    }
}

/// A lease, as soon as Redis is back; `None` if there is none to be had.
async fn acquire(context: &WorkerContext, started: &StartedAttempt) -> Option<Lease> {
    loop {
        tokio::time::sleep(LEASE_RETRY_INTERVAL).await;
        match started.record_start(context).await {
            Ok(lease) => return lease,
            Err(error) => {
                tracing::debug!(job.id = %started.job.id, %error, "a job still runs without lease");
            }
        }
    }
}
