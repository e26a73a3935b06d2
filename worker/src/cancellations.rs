//! Cancellations of jobs, received by one subscription for all runners of a process.
//!
//! A cancellation that is missed, because Redis was unreachable or the channel lagged, is noticed
//! at the next progress report or lease renewal.

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use warmq_process::retry::until_success;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};

/// Capacity of the channel: how many ids a runner may lag behind.
const CANCELLATION_BACKLOG: usize = 256;

/// Why the subscription must be renewed.
#[derive(Debug, thiserror::Error)]
enum SubscriptionError {
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    #[error("the subscription to Redis ended")]
    Ended,
}

/// The app's cancellations; cheap to clone.
#[derive(Clone)]
pub struct Cancellations(broadcast::Sender<JobId>);

impl Cancellations {
    /// Subscribes to the app's cancellations until `stop`.
    pub fn follow(store: Store, app: AppId, stop: CancellationToken) -> Self {
        let (sender, _) = broadcast::channel(CANCELLATION_BACKLOG);
        let ids = sender.clone();
        tokio::spawn(async move {
            until_success("subscribing to cancellations", &stop, || {
                follow(&store, &app, &ids)
            })
            .await
        });
        Self(sender)
    }

    /// Returns a listener for the cancellation of `job`.
    pub fn listen(&self, job: JobId) -> CancellationListener {
        CancellationListener {
            job,
            receiver: self.0.subscribe(),
        }
    }
}

/// Waits for the cancellation of one job.
pub struct CancellationListener {
    job: JobId,
    receiver: broadcast::Receiver<JobId>,
}

impl CancellationListener {
    /// Waits until the job is cancelled.
    pub async fn cancelled(&mut self) {
        loop {
            match self.receiver.recv().await {
                Ok(job) if job == self.job => return,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

async fn follow(
    store: &Store,
    app: &AppId,
    ids: &broadcast::Sender<JobId>,
) -> Result<(), SubscriptionError> {
    let mut cancellations = store.cancellation().subscribe(app).await?;
    while let Some(job) = cancellations.next().await {
        // Fails while all runners are idle: there is no listener.
        let _ = ids.send(job);
    }
    Err(SubscriptionError::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_receives_the_cancellation_of_its_own_job_only() {
        let cancellations = Cancellations(broadcast::channel(4).0);
        let (mine, other) = (JobId::generate(), JobId::generate());
        let mut listener = cancellations.listen(mine);
        // More than the capacity: the listener lags and still receives the last id.
        for _ in 0..9 {
            cancellations.0.send(other).unwrap();
        }
        cancellations.0.send(mine).unwrap();
        listener.cancelled().await;
    }
}
