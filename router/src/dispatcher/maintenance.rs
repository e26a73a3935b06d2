//! Periodic work of an app's leader, independent of the policy. Every second while the app is
//! active: expire jobs, remove lost runners, update gauges. Every 5 s: republish jobs with lost
//! messages, delete queues of ended runners.
//!
//! It runs beside the loop that places jobs, which only reports which jobs it holds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use warmq_broker::{Message, Topology};
use warmq_store::{QueueDepths, QueuedCursor};
use warmq_types::ids::{Epoch, JobId, RunnerId};
use warmq_types::job::Priority;
use warmq_types::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::session_error::SessionError;

/// Interval of the reconcile round.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);

/// Jobs per round.
const JOB_BATCH: isize = 1000;

const MAX_CONCURRENT_JOBS: usize = 32;

/// Republished jobs in memory at once, each with its input.
const MAX_CONCURRENT_REPUBLISHES: usize = 4;

/// Reports in which a job must be missing before it counts as not held: it may have returned to its
/// lane just before the first one.
const MIN_REPORTS: u8 = 2;

/// Age at which the leader announces a stored end: until then its own component is expected to.
const OUTBOX_GRACE: Duration = Duration::from_secs(10);

/// Delay before an ended runner's queue is deleted, in units of `reconcile_after`.
const QUEUE_DELETION_GRACE: u32 = 2;

/// Delay before a new session removes lapsed runners: after an outage of Redis all leases have
/// lapsed, and live runners renew theirs within a heartbeat (5 s).
const FIRST_REAP_GRACE: Duration = Duration::from_secs(6);

/// Longest pause of maintenance while nothing happens in the app.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Duration of a runner's lease: a runner that joins after a check lapses no sooner than this.
const RUNNER_LEASE: Duration = Duration::from_secs(15);

/// Shared state of maintenance and the loop that places jobs.
#[derive(Default)]
pub(super) struct Maintenance {
    query: Mutex<HeldQuery>,
    finished: Notify,
    woken: watch::Sender<()>,
}

#[derive(Default)]
struct HeldQuery {
    /// Number of jobs that the loop holds.
    held: usize,
    /// Queried jobs that the loop has not reported as held.
    jobs: Vec<JobId>,
    /// Reports still to come.
    reports_left: u8,
}

impl Maintenance {
    /// Reports the held jobs; called every second.
    pub(super) fn report_held(&self, held: usize, holds: impl Fn(JobId) -> bool) {
        let mut query = self.query();
        // The gauges show it.
        if std::mem::replace(&mut query.held, held) != held {
            self.wake();
        }
        if query.reports_left > 0 {
            query.jobs.retain(|job| !holds(*job));
            query.reports_left -= 1;
            if query.reports_left == 0 {
                self.finished.notify_one();
            }
        }
    }

    /// Wakes maintenance within a second.
    pub(super) fn wake(&self) {
        self.woken.send_replace(());
    }

    /// Returns the number of held jobs of the last report.
    pub(super) fn held(&self) -> usize {
        self.query().held
    }

    /// Returns those of `jobs` that the session does not hold.
    async fn not_held(&self, jobs: Vec<JobId>) -> Vec<JobId> {
        {
            let mut query = self.query();
            (query.jobs, query.reports_left) = (jobs, MIN_REPORTS);
        }
        self.finished.notified().await;
        std::mem::take(&mut self.query().jobs)
    }

    fn query(&self) -> MutexGuard<'_, HeldQuery> {
        self.query.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until a server fails.
pub(super) async fn run(dispatcher: &Dispatcher, session: &Session) -> Result<(), SessionError> {
    try_join(
        dispatcher.check_when_woken(session),
        dispatcher.reconcile_periodically(session),
    )
    .await
    .map(|((), ())| ())
}

impl Dispatcher {
    /// Checks at most once a second, after activity, after a lapsed lease, or after
    /// [`IDLE_INTERVAL`].
    async fn check_when_woken(&self, session: &Session) -> Result<(), SessionError> {
        let mut woken = session.maintenance.woken.subscribe();
        let first_reaping = Instant::now() + FIRST_REAP_GRACE;
        let mut lapse = first_reaping;
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            tick.tick().await;
            woken.mark_unchanged();
            self.shared.finalizer.expire(&self.app).await?;
            if Instant::now() >= first_reaping {
                (_, lapse) = self.reap().await?;
                self.mark_lost_jobs().await?;
            }
            if self.update_gauges(session).await? > 0 {
                continue;
            }
            let quiet = Instant::now() + IDLE_INTERVAL;
            loop {
                tokio::select! {
                    _ = woken.changed() => break,
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

    async fn reconcile_periodically(&self, session: &Session) -> Result<(), SessionError> {
        let mut woken = session.maintenance.woken.subscribe();
        let quiet = IDLE_INTERVAL.min(self.shared.reconcile_after);
        let mut cursor = QueuedCursor::default();
        loop {
            tokio::time::sleep(RECONCILE_INTERVAL).await;
            // Without activity, only queues of ended runners remain to be deleted.
            let _ = tokio::time::timeout(quiet.saturating_sub(RECONCILE_INTERVAL), woken.changed())
                .await;
            woken.mark_unchanged();
            let finalizer = &self.shared.finalizer;
            finalizer.drain_outbox(&self.app, OUTBOX_GRACE).await?;
            self.reconcile(session, &mut cursor).await?;
            self.delete_ended_queues(session).await?;
        }
    }

    /// Removes runners whose leases lapsed. Returns whether there were any, and when the next lease
    /// may lapse.
    async fn reap(&self) -> Result<(bool, Instant), SessionError> {
        let Self { shared, app, .. } = self;
        let first_lapse = shared.store.fleet().first_lapse(app).await?;
        let first_lapse = first_lapse.unwrap_or(RUNNER_LEASE).min(RUNNER_LEASE);
        if !first_lapse.is_zero() {
            return Ok((false, Instant::now() + first_lapse));
        }
        for runner in shared.store.fleet().reap(app).await? {
            tracing::warn!(%app, %runner, "removed a runner: no heartbeat for a whole lease");
        }
        Ok((true, Instant::now() + TICK_INTERVAL))
    }

    /// Records the lost attempts of jobs whose runners were lost, independent of their messages:
    /// each is queued again or quarantined. Lost messages are republished by `reconcile`.
    async fn mark_lost_jobs(&self) -> Result<(), SessionError> {
        let orphaned = self
            .shared
            .store
            .maintenance()
            .jobs_of_lost_runners(&self.app, JOB_BATCH)
            .await?;
        let orphaned = stream::iter(orphaned).map(Ok);
        orphaned
            .try_for_each_concurrent(MAX_CONCURRENT_JOBS, |job| async move {
                match self.mark_lost(job).await {
                    Err(error) if error.is_damage() => {
                        tracing::error!(job.id = %job, %error, "a job lost its runner, and its record cannot be used");
                        Ok(self.shared.store.maintenance().forget_job_of_lost_runner(&self.app, job).await?)
                    }
                    noted => noted,
                }
            })
            .await
    }

    async fn mark_lost(&self, job: JobId) -> Result<(), SessionError> {
        let Self { shared, app, .. } = self;
        let Some(loss) = shared.store.attempts().mark_lost(app, job).await? else {
            return Ok(());
        };
        tracing::warn!(job.id = %job, attempt = loss.attempt, runner = %loss.runner, "a job lost its runner");
        if loss.pause.is_none()
            && let Some(record) = shared.store.jobs().job_of(app, job).await?
        {
            self.quarantine(&record.spec).await?;
        }
        Ok(())
    }

    /// Republishes jobs whose messages are lost: no activity for `reconcile_after`, and no queue
    /// can contain them. A duplicate is harmless, since a running or ended job is not started.
    async fn reconcile(
        &self,
        session: &Session,
        cursor: &mut QueuedCursor,
    ) -> Result<(), SessionError> {
        let Self { shared, app, .. } = self;
        let quiet = shared.reconcile_after;
        let silent = shared
            .store
            .maintenance()
            .possibly_lost(app, quiet, JOB_BATCH, cursor)
            .await?;
        if silent.is_empty() {
            return Ok(());
        }
        let silent = session.maintenance.not_held(silent).await;
        let late = shared.topology.deferred_results_queue();
        // Deferred results wait to be stored: some of these jobs may have ended.
        if silent.is_empty() || Topology::depth(&session.channel, &late).await? > 0 {
            return Ok(());
        }
        let depths = self.depths(session).await?;
        let lost = stream::iter(silent).map(|id| self.is_lost(id, depths));
        let lost: Vec<Option<JobId>> = lost
            .buffer_unordered(MAX_CONCURRENT_JOBS)
            .try_collect()
            .await?;
        let lost = stream::iter(lost.into_iter().flatten()).map(Ok);
        lost.try_for_each_concurrent(MAX_CONCURRENT_REPUBLISHES, |id| self.republish(id))
            .await
    }

    /// Returns the job if its message must be republished.
    async fn is_lost(&self, id: JobId, depths: QueueDepths) -> Result<Option<JobId>, SessionError> {
        let Self { shared, app, .. } = self;
        let quiet = shared.reconcile_after;
        match shared
            .store
            .maintenance()
            .reconcile(app, id, quiet, depths)
            .await
        {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %id, %error, "a job's message may be lost, and its record cannot be used");
                Ok(None)
            }
            is_lost => Ok(is_lost?.then_some(id)),
        }
    }

    /// Returns which messages the queues can still contain.
    async fn depths(&self, session: &Session) -> Result<QueueDepths, SessionError> {
        let Self { shared, app, .. } = self;
        // Read before the depths: a message published in between does not count as passed.
        let now_ms = shared.store.now_ms().await?;
        let shared_queue = shared.topology.shared_queue(app);
        Ok(QueueDepths {
            normal_passed_ms: self.passed_ms(session, Priority::Normal, now_ms).await?,
            low_passed_ms: self.passed_ms(session, Priority::Low, now_ms).await?,
            shared_empty: self.lane_progress.shared_is_quiet(shared.reconcile_after)
                && Topology::depth(&session.channel, &shared_queue).await? == 0,
        })
    }

    /// Returns the time, Unix ms, before which all messages of a lane have passed: `now_ms` if it
    /// is empty.
    async fn passed_ms(
        &self,
        session: &Session,
        lane: Priority,
        now_ms: u64,
    ) -> Result<u64, SessionError> {
        let queue = self.shared.topology.lane_queue(&self.app, lane);
        Ok(match Topology::depth(&session.channel, &queue).await? {
            0 => now_ms,
            _ => self.lane_progress.until_ms(lane),
        })
    }

    async fn republish(&self, id: JobId) -> Result<(), SessionError> {
        let Self { shared, app, .. } = self;
        let record = match shared.store.jobs().job_of(app, id).await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %id, %error, "a job's message is lost, and its record cannot be read");
                return Ok(());
            }
            record => record?,
        };
        let Some(record) = record else {
            return Ok(());
        };
        shared.store.jobs().find_again(&record.spec).await?;
        tracing::warn!(job.id = %id, state = %record.state, "republished a job that showed no activity for `reconcile_after`");
        let key = shared.topology.lane_key(app, record.spec.priority);
        let job = JobMessage::new(record.spec)
            .with(shared.store.attempts().failure_history(app, id).await?);
        // Encoding cannot fail: string keys, no I/O.
        let body = job.encode().unwrap_or_default();
        let message = Message {
            message_id: Some(id.to_string()),
            ..Message::new(body)
        }
        .returned();
        let exchange = shared.topology.dispatch_exchange();
        Ok(shared.publisher.publish(&exchange, &key, &message).await?)
    }

    /// Deletes the queues of runners that ended long ago.
    async fn delete_ended_queues(&self, session: &Session) -> Result<(), SessionError> {
        let Self { shared, app, .. } = self;
        let ago = shared.reconcile_after * QUEUE_DELETION_GRACE;
        for (runner, epoch) in shared
            .store
            .maintenance()
            .ended_incarnations(app, ago)
            .await?
        {
            if self.delete_queue(session, &runner, epoch).await? {
                let done = shared
                    .store
                    .maintenance()
                    .forget_incarnation(app, &runner, epoch);
                done.await?;
            }
        }
        Ok(())
    }

    /// Returns false if the queue has a consumer or a message.
    async fn delete_queue(
        &self,
        session: &Session,
        runner: &RunnerId,
        epoch: Epoch,
    ) -> Result<bool, SessionError> {
        // The broker closes the channel of a refused deletion.
        let channel = session.connection.create_channel().await?;
        let deleted = (self.shared.topology)
            .delete_runner(&channel, runner, epoch)
            .await;
        match deleted {
            Ok(()) => {
                channel.close(200, "done".into()).await?;
                Ok(true)
            }
            Err(error) if session.connection.status().connected() => {
                tracing::debug!(%runner, %error, "the queue of a runner that ended is still in use");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_not_held_once_the_loop_said_so_twice() {
        let maintenance = Maintenance::default();
        let [held, returned, lost] = [(); 3].map(|()| JobId::generate());
        let jobs = maintenance.not_held(vec![held, returned, lost]);
        let reports = async {
            tokio::task::yield_now().await;
            maintenance.report_held(2, |job| job == held);
            maintenance.report_held(2, |job| job == held || job == returned);
        };
        let (not_held, ()) = tokio::join!(jobs, reports);
        assert_eq!(not_held, [lost]);
        assert_eq!(maintenance.held(), 2);
    }

    #[test]
    fn a_changed_number_of_held_jobs_wakes_maintenance() {
        let maintenance = Maintenance::default();
        maintenance.report_held(1, |_| true);
        let woken = maintenance.woken.subscribe();
        maintenance.report_held(1, |_| true);
        assert!(!woken.has_changed().unwrap());
        maintenance.report_held(0, |_| true);
        assert!(woken.has_changed().unwrap());
    }
}
