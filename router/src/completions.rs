//! Hears which jobs end, and wakes those in this process who wait for one.
//!
//! An event may be missed while the connection is made again, so whoever waits looks at the record
//! now and then.

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

/// The job, and which of those who wait for it.
type Place = (JobId, u64);

/// A cheap handle on those who wait for jobs to end.
#[derive(Clone, Default)]
pub struct CompletionListener {
    waiting: Arc<Mutex<BTreeMap<Place, Arc<Notify>>>>,
    next: Arc<AtomicU64>,
}

impl CompletionListener {
    /// Listens for the end of `job` from now on.
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

    /// Events may have been missed.
    fn wake_all(&self) {
        self.waiting().values().for_each(|heard| heard.notify_one());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of one job.
pub struct Waiter {
    place: Place,
    heard: Arc<Notify>,
    jobs: CompletionListener,
}

impl Waiter {
    /// Returns once the job has ended, or may have.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.jobs.waiting().remove(&self.place);
    }
}

/// Follows the ends of all jobs, by a queue of this process' own.
pub struct Follower {
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// Who is woken.
    pub ended: CompletionListener,
}

impl Follower {
    /// Follows until `shutdown`, over as many connections as it takes.
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Answers that are still waited for when the router stops come from their looks at the
        // record.
        retry::until_success("following ended jobs", &shutdown, || self.follow()).await;
        Ok(())
    }

    async fn follow(&self) -> Result<(), SessionError> {
        let connection = warmq_broker::connect(&self.amqp_url, "warmq-router ended jobs").await?;
        let channel = connection.create_channel().await?;
        self.topology.declare_base(&channel).await?;
        let queue = self.topology.declare_live_ends(&channel).await?;
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
