//! Cancelled jobs, as the process hears of them: one subscription for all its runners.
//!
//! What is missed, while Redis was away or since too much came at once, is found out when the job's progress is reported or
//! its lease renewed.

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use warmq_process::retry::until_success;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};

/// Ids that a runner may be behind.
const CANCELLATION_BACKLOG: usize = 256;

/// Why the subscription has to be made again.
#[derive(Debug, thiserror::Error)]
enum SubscriptionError {
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    #[error("the subscription to Redis ended")]
    Ended,
}

/// What is heard of cancelled jobs; cheap to clone.
#[derive(Clone)]
pub struct Cancellations(broadcast::Sender<JobId>);

impl Cancellations {
    /// Listens to the app's cancellations until `stop`.
    pub fn follow(store: Store, app: AppId, stop: CancellationToken) -> Self {
        let (sender, _) = broadcast::channel(CANCELLATION_BACKLOG);
        let heard = sender.clone();
        tokio::spawn(async move {
            until_success("following cancelled jobs", &stop, || {
                follow(&store, &app, &heard)
            })
            .await
        });
        Self(sender)
    }

    /// Listens for `job` from now on.
    pub fn listen(&self, job: JobId) -> CancellationListener {
        CancellationListener {
            job,
            heard: self.0.subscribe(),
        }
    }
}

/// Waits for the cancellation of one job.
pub struct CancellationListener {
    job: JobId,
    heard: broadcast::Receiver<JobId>,
}

impl CancellationListener {
    /// Returns once the job was cancelled.
    pub async fn cancelled(&mut self) {
        loop {
            match self.heard.recv().await {
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
    heard: &broadcast::Sender<JobId>,
) -> Result<(), SubscriptionError> {
    let mut cancellations = store.cancellations(app).await?;
    while let Some(job) = cancellations.next().await {
        // Nobody listens while all runners are idle.
        let _ = heard.send(job);
    }
    Err(SubscriptionError::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_hears_of_its_own_job_only() {
        let cancellations = Cancellations(broadcast::channel(4).0);
        let (mine, other) = (JobId::generate(), JobId::generate());
        let mut watch = cancellations.listen(mine);
        // More than fits: the watch is behind, and still hears what comes after.
        for _ in 0..9 {
            cancellations.0.send(other).unwrap();
        }
        cancellations.0.send(mine).unwrap();
        watch.cancelled().await;
    }
}
