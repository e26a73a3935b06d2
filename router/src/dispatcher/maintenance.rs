//! Expires jobs, removes lost runners, and updates gauges: every second while the app is active.
//! Independent of the placement, and beside the loop, so that placing never waits for it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};

use super::Dispatcher;
use super::quarantine::Quarantine;
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::finalizer::Finalizer;
use crate::session_error::SessionError;

/// Jobs per round.
pub(super) const JOB_BATCH: isize = 1000;

pub(super) const MAX_CONCURRENT_JOBS: usize = 32;

/// Delay before a new session removes lapsed runners: after an outage of Redis all leases have
/// lapsed, and live runners renew theirs within a heartbeat (5 s).
const FIRST_REAP_GRACE: Duration = Duration::from_secs(6);

/// Longest pause of maintenance while nothing happens in the app.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Duration of a runner's lease: a runner that joins after a check lapses no sooner than this.
const RUNNER_LEASE: Duration = Duration::from_secs(15);

/// Runs until a server fails.
pub(super) async fn run(dispatcher: &Dispatcher, session: &Session) -> Result<(), SessionError> {
    let maintenance = Maintenance {
        app: &dispatcher.app,
        store: &dispatcher.shared.store,
        finalizer: &dispatcher.shared.finalizer,
        quarantine: dispatcher.quarantine(),
        session,
    };
    maintenance.run().await
}

#[derive(Clone, Copy)]
struct Maintenance<'a> {
    app: &'a AppId,
    store: &'a Store,
    finalizer: &'a Finalizer,
    quarantine: Quarantine<'a>,
    session: &'a Session,
}

impl Maintenance<'_> {
    /// Checks at most once a second, after activity, after a lapsed lease, or after
    /// [`IDLE_INTERVAL`].
    async fn run(self) -> Result<(), SessionError> {
        let Session {
            reports, gauges, ..
        } = self.session;
        let mut activity = reports.activity();
        let first_reaping = Instant::now() + FIRST_REAP_GRACE;
        let mut lapse = first_reaping;
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            tick.tick().await;
            activity.mark_unchanged();
            self.finalizer.expire(self.app).await?;
            if Instant::now() >= first_reaping {
                (_, lapse) = self.reap().await?;
                self.mark_lost_jobs().await?;
            }
            let counts = self.store.runners().counts(self.app).await?;
            gauges.show(reports.held_work(), counts);
            if counts.queued > 0 {
                continue;
            }
            let quiet = Instant::now() + IDLE_INTERVAL;
            loop {
                tokio::select! {
                    _ = activity.changed() => break,
                    () = tokio::time::sleep_until(quiet) => break,
                    () = tokio::time::sleep_until(lapse) => {
                        let lost;
                        (lost, lapse) = self.reap().await?;
                        if lost {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Removes runners whose leases lapsed. Returns whether there were any, and when the next lease
    /// may lapse.
    async fn reap(self) -> Result<(bool, Instant), SessionError> {
        let Self { app, store, .. } = self;
        let first_lapse = store.membership().first_lapse(app).await?;
        let first_lapse = first_lapse.unwrap_or(RUNNER_LEASE).min(RUNNER_LEASE);
        if !first_lapse.is_zero() {
            return Ok((false, Instant::now() + first_lapse));
        }
        for runner in store.membership().reap(app).await? {
            tracing::warn!(%app, %runner, "removed a runner: no heartbeat for a whole lease");
        }
        Ok((true, Instant::now() + TICK_INTERVAL))
    }

    /// Records the lost attempts of jobs whose runners were lost, independent of their messages:
    /// each is queued again or quarantined. Their messages are the task of
    /// [`super::reconcile`].
    async fn mark_lost_jobs(self) -> Result<(), SessionError> {
        let orphaned = (self.store.maintenance())
            .jobs_of_lost_runners(self.app, JOB_BATCH)
            .await?;
        let orphaned = stream::iter(orphaned).map(Ok);
        orphaned
            .try_for_each_concurrent(MAX_CONCURRENT_JOBS, |job| async move {
                match self.mark_lost(job).await {
                    Err(error) if error.is_damage() => {
                        tracing::error!(
                            job.id = %job, %error,
                            "a job lost its runner, and its record cannot be used"
                        );
                        Ok(self
                            .store
                            .maintenance()
                            .forget_job_of_lost_runner(self.app, job)
                            .await?)
                    }
                    noted => noted,
                }
            })
            .await
    }

    async fn mark_lost(self, job: JobId) -> Result<(), SessionError> {
        let Self { app, store, .. } = self;
        let Some(loss) = store.attempts().mark_lost(app, job).await? else {
            return Ok(());
        };
        tracing::warn!(
            job.id = %job, attempt = loss.attempt, runner = %loss.runner,
            "a job lost its runner"
        );
        if loss.pause.is_none()
            && let Some(record) = store.jobs().job_of(app, job).await?
        {
            self.quarantine.end(&record.spec).await?;
        }
        Ok(())
    }
}
