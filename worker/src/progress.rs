//! Progress reports of a running job, throttled and written to its record, and the events of its
//! stream.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_store::Store;
use warmq_types::attempt::Lease;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobSpec, Phase, Progress};

use crate::engine::thread::RunReports;
use crate::timeline::{Stage, Timeline};

/// Shortest interval between reports of the same phase: each is a write to Redis, and few are read.
/// A later phase is reported at once.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Time from the start to the first report: a short job reports nothing.
const FIRST_REPORT: Duration = Duration::from_millis(100);

/// Buffered events of a job's stream.
const EVENT_BUFFER: usize = 256;

/// Events per write.
const EVENT_BATCH: usize = 32;

/// Size limit of one event, bytes.
const MAX_EVENT_BYTES: usize = 512 << 10;

/// Size limit of all events of an attempt, bytes.
const MAX_EVENTS_BYTES: usize = 16 << 20;

/// Timeout for writing the last events before the job's end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes a job's progress and events until dropped.
pub struct ProgressReporter {
    sender: watch::Sender<Option<Progress>>,
    task: JoinHandle<()>,
    events: mpsc::Sender<Value>,
    events_task: JoinHandle<()>,
    timeline: Timeline,
}

impl ProgressReporter {
    /// Starts writing once there is a lease. `lost` is cancelled once the job is no longer this
    /// attempt's.
    pub fn start(
        store: Store,
        job: &JobSpec,
        lease: watch::Receiver<Option<Lease>>,
        lost: CancellationToken,
        timeline: &Timeline,
    ) -> Self {
        let (sender, receiver) = watch::channel(None);
        let (events, events_receiver) = mpsc::channel(EVENT_BUFFER);
        let (app, job) = (job.app.clone(), job.id);
        let writer = EventWriter {
            store: store.clone(),
            app: app.clone(),
            job,
            lease: lease.clone(),
        };
        let events_task = tokio::spawn(writer.write(events_receiver));
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
        Self {
            sender,
            task,
            events,
            events_task,
            timeline: timeline.clone(),
        }
    }

    /// Returns the receivers of the engine's reports.
    pub fn reports(&self) -> RunReports {
        RunReports {
            progress: self.sender.clone(),
            events: self.events.clone(),
            timeline: self.timeline.clone(),
        }
    }

    /// Writes the events that are left: readers expect them before the job's end.
    pub async fn end(mut self) {
        self.events = mpsc::channel(1).0;
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, &mut self.events_task).await;
    }

    /// Returns a receiver of the engine's reports.
    pub fn watch(&self) -> watch::Receiver<Option<Progress>> {
        self.sender.subscribe()
    }

    /// Reports that the job's input files are being fetched.
    pub fn fetching(&self) {
        self.timeline.begin(Stage::Fetch);
        (self.sender).send_replace(Some(Progress::at(Phase::Fetching, 0, 0)));
    }

    /// Reports that the job's output files are being stored.
    pub fn storing(&self) {
        self.timeline.begin(Stage::Store);
        (self.sender).send_replace(Some(Progress::at(Phase::Storing, 0, 0)));
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.task.abort();
        self.events_task.abort();
    }
}

/// Writes the events of a job's stream.
struct EventWriter {
    store: Store,
    app: AppId,
    job: JobId,
    lease: watch::Receiver<Option<Lease>>,
}

impl EventWriter {
    /// Writes events until the senders are dropped. Those beyond the limits are dropped.
    async fn write(self, mut events: mpsc::Receiver<Value>) {
        let mut room = MAX_EVENTS_BYTES;
        let mut batch = Vec::new();
        while events.recv_many(&mut batch, EVENT_BATCH).await > 0 {
            let mut texts: Vec<String> = batch.drain(..).map(|event| event.to_string()).collect();
            texts.retain(|text| {
                let fits = text.len() <= MAX_EVENT_BYTES.min(room);
                room -= if fits { text.len() } else { 0 };
                fits
            });
            let lease = *self.lease.borrow();
            let Some(Lease { fence, .. }) = lease.filter(|_| !texts.is_empty()) else {
                continue;
            };
            let written = self
                .store
                .attempts()
                .emit(&self.app, self.job, fence, &texts);
            if let Err(error) = written.await {
                tracing::debug!(job.id = %self.job, %error, "events of a job were lost");
            }
        }
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
            earliest: Instant::now() + FIRST_REPORT,
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
        Some(Progress::at(phase, step, 500))
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_reported_twice_a_second_and_a_phase_at_once() {
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
        tokio::time::sleep(FIRST_REPORT + Duration::from_millis(1)).await;
        for step in 1..=500 {
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
    async fn a_short_job_reports_nothing() {
        let (sender, receiver) = watch::channel(None);
        let mut reports = Throttled::new(receiver);
        sender.send_replace(at(Phase::Loading, 0));
        sender.send_replace(at(Phase::Running, 0));
        let within = FIRST_REPORT - Duration::from_millis(1);
        assert!(tokio::time::timeout(within, reports.next()).await.is_err());
    }
}
