//! Progress reports of a running job, throttled and written to its record.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_store::Store;
use warmq_types::attempt::Lease;
use warmq_types::job::{JobSpec, Phase, Progress};

/// Shortest interval between reports of the same phase, and from the start to the first report: a
/// short job reports nothing. A later phase is reported at once.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Writes a job's progress to its record until dropped.
pub struct ProgressReporter {
    sender: watch::Sender<Option<Progress>>,
    task: JoinHandle<()>,
}

impl ProgressReporter {
    /// Starts writing once there is a lease. `lost` is cancelled once the job is no longer this
    /// attempt's.
    pub fn start(
        store: Store,
        job: &JobSpec,
        lease: watch::Receiver<Option<Lease>>,
        lost: CancellationToken,
    ) -> Self {
        let (sender, receiver) = watch::channel(None);
        let (app, job) = (job.app.clone(), job.id);
        let task = tokio::spawn(async move {
            let mut reports = Throttled::new(receiver);
            let mut shown = None;
            while let Some(mut progress) = reports.next().await {
                let Some(Lease { fence, .. }) = *lease.borrow() else {
                    continue;
                };
                // The record keeps the previous preview.
                match progress.preview == shown {
                    true => progress.preview = None,
                    false => shown.clone_from(&progress.preview),
                }
                match store.attempts().progress(&app, job, fence, &progress).await {
                    Ok(true) => {}
                    Ok(false) => lost.cancel(),
                    // The lease keeper logs the outage.
                    Err(error) => {
                        tracing::debug!(job.id = %job, %error, "a progress report was lost")
                    }
                }
            }
        });
        Self { sender, task }
    }

    /// Returns the sender for the engine's reports.
    pub fn sender(&self) -> watch::Sender<Option<Progress>> {
        self.sender.clone()
    }

    /// Returns a receiver of the engine's reports.
    pub fn watch(&self) -> watch::Receiver<Option<Progress>> {
        self.sender.subscribe()
    }

    /// Reports that the job's input files are being fetched.
    pub fn fetching(&self) {
        (self.sender).send_replace(Some(Progress::at(Phase::Fetching, 0, 0)));
    }

    /// Reports that the job's output files are being stored.
    pub fn storing(&self) {
        (self.sender).send_replace(Some(Progress::at(Phase::Storing, 0, 0)));
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The latest progress, at most every [`PROGRESS_INTERVAL`].
struct Throttled {
    receiver: watch::Receiver<Option<Progress>>,
    phase: Option<Phase>,
    earliest: Instant,
}

impl Throttled {
    fn new(receiver: watch::Receiver<Option<Progress>>) -> Self {
        Self {
            receiver,
            phase: None,
            earliest: Instant::now() + PROGRESS_INTERVAL,
        }
    }

    /// Returns the next report that is due, `None` once the sender is dropped.
    async fn next(&mut self) -> Option<Progress> {
        self.receiver.changed().await.ok()?;
        let mut latest = self.latest()?;
        // A later report replaces a waiting one; a new phase does not wait.
        while self.phase.is_none_or(|phase| phase == latest.phase) && Instant::now() < self.earliest
        {
            tokio::select! {
                () = tokio::time::sleep_until(self.earliest) => {}
                changed = self.receiver.changed() => match changed {
                    Ok(()) => latest = self.latest()?,
                    Err(_) => break,
                },
            }
        }
        self.phase = Some(latest.phase);
        self.earliest = Instant::now() + PROGRESS_INTERVAL;
        Some(latest)
    }

    fn latest(&mut self) -> Option<Progress> {
        self.receiver.borrow_and_update().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: Phase, step: u32) -> Option<Progress> {
        Some(Progress::at(phase, step, 100))
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_reported_ten_times_a_second_and_the_last_step_is_reported() {
        let (sender, receiver) = watch::channel(None);
        let mut reports = Throttled::new(receiver);
        let task = tokio::spawn(async move {
            let mut reported = Vec::new();
            while let Some(progress) = reports.next().await {
                reported.push((progress.phase, progress.step));
            }
            reported
        });
        sender.send_replace(at(Phase::Loading, 0));
        tokio::time::sleep(PROGRESS_INTERVAL + Duration::from_millis(1)).await;
        for step in 1..=100 {
            sender.send_replace(at(Phase::Running, step));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sender.send_replace(at(Phase::Storing, 0));
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(sender);
        let reported = task.await.unwrap();
        let phases = |phase| reported.iter().filter(|(found, _)| *found == phase).count();
        assert_eq!((phases(Phase::Loading), phases(Phase::Storing)), (1, 1));
        assert!((8..=12).contains(&phases(Phase::Running)), "{reported:?}");
    }
    #[tokio::test(start_paused = true)]
    async fn a_job_that_ends_within_the_interval_reports_nothing() {
        let (sender, receiver) = watch::channel(None);
        let mut reports = Throttled::new(receiver);
        sender.send_replace(at(Phase::Loading, 0));
        sender.send_replace(at(Phase::Running, 0));
        let within = PROGRESS_INTERVAL - Duration::from_millis(1);
        assert!(tokio::time::timeout(within, reports.next()).await.is_err());
    }
}
