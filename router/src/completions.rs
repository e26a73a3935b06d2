//! Wakes the requests in this process that wait for a job's end, which scripts publish in Redis.
//!
//! A message may be lost, so waiting requests also poll the record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use warmq_process::retry;
use warmq_store::Store;
use warmq_types::ids::JobId;

use crate::session_error::SessionError;

/// A job, and the number of a waiter.
type WaiterId = (JobId, u64);

/// A cheap handle on the waiters.
#[derive(Clone, Default)]
pub struct CompletionListener {
    waiting: Arc<Mutex<BTreeMap<WaiterId, Arc<Notify>>>>,
    next: Arc<AtomicU64>,
}

impl CompletionListener {
    /// Registers a waiter for the end of `job`.
    pub fn watch(&self, job: JobId) -> Waiter {
        let id = (job, self.next.fetch_add(1, Ordering::Relaxed));
        let ended = Arc::new(Notify::new());
        self.waiting().insert(id, ended.clone());
        Waiter {
            id,
            ended,
            jobs: self.clone(),
        }
    }

    fn wake(&self, job: JobId) {
        for (_, ended) in self.waiting().range((job, 0)..=(job, u64::MAX)) {
            ended.notify_one();
        }
    }

    /// Wakes all waiters, since ends may have been missed.
    fn wake_all(&self) {
        self.waiting().values().for_each(|ended| ended.notify_one());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<WaiterId, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration for the end of one job.
pub struct Waiter {
    id: WaiterId,
    ended: Arc<Notify>,
    jobs: CompletionListener,
}

impl Waiter {
    /// Returns once the job may have ended.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.jobs.waiting().remove(&self.id);
    }
}

/// Reads the ends of all jobs.
pub struct Follower {
    pub(crate) store: Store,
    pub(crate) ended: CompletionListener,
}

impl Follower {
    /// Runs until `shutdown`, reconnecting as needed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Requests that still wait at shutdown rely on polling.
        retry::until_success("following ended jobs", &shutdown, || self.follow()).await;
        Ok(())
    }

    async fn follow(&self) -> Result<(), SessionError> {
        let mut ends = self.store.jobs().ends().await?;
        self.ended.wake_all();
        while let Some(job) = ends.next().await {
            tracing::debug!(job.id = %job, "learned of a job's end");
            self.ended.wake(job);
        }
        Err(SessionError::SubscriptionEnded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_woken(waiter: &Waiter) -> bool {
        use futures::FutureExt;
        waiter.ended().now_or_never().is_some()
    }

    #[test]
    fn all_waiters_of_a_job_are_woken_and_no_others() {
        let jobs = CompletionListener::default();
        let (mine, other) = (JobId::generate(), JobId::generate());
        let waiters = [mine, mine, other].map(|job| jobs.watch(job));
        jobs.wake(mine);
        assert_eq!(waiters.each_ref().map(is_woken), [true, true, false]);
        jobs.wake_all();
        assert_eq!(waiters.each_ref().map(is_woken), [true, true, true]);
    }

    #[test]
    fn a_dropped_waiter_is_removed() {
        let jobs = CompletionListener::default();
        let waiter = jobs.watch(JobId::generate());
        drop(waiter);
        assert!(jobs.waiting().is_empty());
    }
}
