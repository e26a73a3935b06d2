//! Consumes the events of ended jobs, and wakes the requests in this process that wait for them.
//!
//! Events may be missed during a reconnect, so waiting requests also poll the record.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, consumer};
use warmq_process::retry;
use warmq_types::ids::JobId;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::server_url::ServerUrl;

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

    /// Wakes all waiters, since events may have been missed.
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

/// Consumes the events of all jobs from a queue of this process.
pub struct Follower {
    pub(crate) amqp_url: ServerUrl,
    pub(crate) topology: Topology,
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
        let connection = warmq_broker::connect(&self.amqp_url, "warmq-router ended jobs").await?;
        let channel = connection.create_channel().await?;
        self.topology.declare_base(&channel).await?;
        let queue = self.topology.declare_completion_queue(&channel).await?;
        let mut events = pin!(consumer::follow(&channel, &queue, "ended").await?);
        self.ended.wake_all();
        while let Some(delivery) = events.next().await {
            match JobEvent::decode(&delivery?.data) {
                Ok(event) => {
                    tracing::debug!(job.id = %event.job_id, "received a job's end");
                    self.ended.wake(event.job_id);
                }
                Err(error) => tracing::warn!(%error, "dropped an unreadable event"),
            }
        }
        Err(SessionError::Ended)
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
