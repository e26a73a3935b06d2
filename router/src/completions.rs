//! Listens for ended jobs, and wakes the requests in this process that wait for them.
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
type Place = (JobId, u64);

/// A cheap handle on the waiters.
#[derive(Clone, Default)]
pub struct CompletionListener {
    waiting: Arc<Mutex<BTreeMap<Place, Arc<Notify>>>>,
    next: Arc<AtomicU64>,
}

impl CompletionListener {
    /// Registers a waiter for the end of `job`.
    pub fn watch(&self, job: JobId) -> Waiter {
        let place = (job, self.next.fetch_add(1, Ordering::Relaxed));
        let heard = Arc::new(Notify::new());
        self.waiting().insert(place, heard.clone());
        Waiter {
            place,
            heard,
            jobs: self.clone(),
        }
    }

    fn wake(&self, job: JobId) {
        for heard in self.waiting().range((job, 0)..=(job, u64::MAX)) {
            heard.1.notify_one();
        }
    }

    /// Wakes all waiters, since events may have been missed.
    fn wake_all(&self) {
        self.waiting().values().for_each(|heard| heard.notify_one());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration for the end of one job.
pub struct Waiter {
    place: Place,
    heard: Arc<Notify>,
    jobs: CompletionListener,
}

impl Waiter {
    /// Returns once the job may have ended.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.jobs.waiting().remove(&self.place);
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
    ///
    /// # Errors
    /// Never; a broken connection is reopened.
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
                Ok(event) => self.ended.wake(event.job_id),
                Err(error) => tracing::warn!(%error, "dropped an event that cannot be read"),
            }
        }
        Err(SessionError::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(watch: &Waiter) -> bool {
        use futures::FutureExt;
        watch.heard().now_or_never().is_some()
    }

    #[test]
    fn everybody_who_waits_for_a_job_is_woken_and_nobody_else() {
        let jobs = CompletionListener::default();
        let (mine, other) = (JobId::generate(), JobId::generate());
        let watches = [mine, mine, other].map(|job| jobs.watch(job));
        jobs.wake(mine);
        assert_eq!(watches.each_ref().map(heard), [true, true, false]);
        jobs.wake_all();
        assert_eq!(watches.each_ref().map(heard), [true, true, true]);
    }

    #[test]
    fn who_waits_no_more_is_forgotten() {
        let jobs = CompletionListener::default();
        let watch = jobs.watch(JobId::generate());
        drop(watch);
        assert!(jobs.waiting().is_empty());
    }
}
