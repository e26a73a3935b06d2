//! What a runner tells of a job: its progress while it runs, its files, its end.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Message, PublishError};
use warmq_objects::Artifacts;
use warmq_process::retry::Delays;
use warmq_store::Store;
use warmq_types::attempt::Lease;
use warmq_types::ids::JobId;
use warmq_types::job::{JobSpec, Phase, Progress};
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

use crate::engine::Produced;
use crate::shared::Shared;

/// At most ten reports a second, but a change of phase at once.
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// How often a file is offered to the storage, with growing delays between (about 3 s in all).
const STORE_ATTEMPTS: u32 = 6;

/// Forwards a job's progress to its record until it is dropped.
pub struct ProgressReporter {
    sender: watch::Sender<Option<Progress>>,
    task: JoinHandle<()>,
}

impl ProgressReporter {
    /// Starts forwarding, as soon as there is a lease; `lost` is cancelled once the job is no longer this attempt's.
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
                // The record keeps it.
                match progress.preview == shown {
                    true => progress.preview = None,
                    false => shown.clone_from(&progress.preview),
                }
                match store.progress(&app, job, fence, &progress).await {
                    Ok(true) => {}
                    Ok(false) => lost.cancel(),
                    // The lease keeper says so already.
                    Err(error) => {
                        tracing::debug!(job.id = %job, %error, "a progress report was lost")
                    }
                }
            }
        });
        Self { sender, task }
    }

    /// Where the engine says how far it is.
    pub fn sender(&self) -> watch::Sender<Option<Progress>> {
        self.sender.clone()
    }

    /// The progress as the engine reports it.
    pub fn watch(&self) -> watch::Receiver<Option<Progress>> {
        self.sender.subscribe()
    }

    /// Says that the files that the job's input names are being got.
    pub fn fetching(&self) {
        (self.sender).send_replace(Some(Progress::at(Phase::Fetching, 0, 0)));
    }

    /// Says that the job's files are being written.
    pub fn storing(&self) {
        (self.sender).send_replace(Some(Progress::at(Phase::Storing, 0, 0)));
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The latest progress, at most every [`BETWEEN_REPORTS`].
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
            earliest: Instant::now(),
        }
    }

    /// `None` once nobody reports any more.
    async fn next(&mut self) -> Option<Progress> {
        self.receiver.changed().await.ok()?;
        let mut latest = self.latest()?;
        // Whatever comes meanwhile replaces what waits; a new phase does not wait.
        while Some(latest.phase) == self.phase && Instant::now() < self.earliest {
            tokio::select! {
                () = tokio::time::sleep_until(self.earliest) => {}
                changed = self.receiver.changed() => match changed {
                    Ok(()) => latest = self.latest()?,
                    Err(_) => break,
                },
            }
        }
        self.phase = Some(latest.phase);
        self.earliest = Instant::now() + BETWEEN_REPORTS;
        Some(latest)
    }

    fn latest(&mut self) -> Option<Progress> {
        self.receiver.borrow_and_update().clone()
    }
}

/// How long the storage may take for one file.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);

/// Files that the storage refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused more than once, or did not respond.
    #[error("{file} of {bytes} bytes: {reason}")]
    Refused {
        /// The file's name.
        file: String,
        /// Its size.
        bytes: usize,
        /// What the storage said.
        reason: String,
    },
    /// A bug of the engine.
    #[error("the output has no place {0} for a file")]
    NoPlace(String),
}

/// Stores a job's files and puts their references into its output. `attempt` is a part of their keys: a late attempt
/// overwrites nothing.
///
/// # Errors
/// The storage refused more than once.
pub async fn store_files(
    artifacts: &Artifacts,
    job: &JobSpec,
    attempt: &str,
    produced: Produced,
) -> Result<Value, StoreError> {
    let Produced { mut output, files } = produced;
    for file in files {
        let body = Bytes::from(file.bytes);
        let name = format!("{attempt}/{}", file.name);
        let mut delays = Delays::reconnect();
        let mut tries = 1;
        let reference = loop {
            let put = artifacts.put(&job.app, job.id, &name, body.clone());
            let reason = match tokio::time::timeout(STORE_TIMEOUT, put).await {
                Ok(Ok(reference)) => break reference,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", STORE_TIMEOUT.as_secs()),
            };
            tracing::warn!(job.id = %job.id, file = file.name, reason, "storing a file failed");
            if tries == STORE_ATTEMPTS {
                return Err(StoreError::Refused {
                    bytes: body.len(),
                    file: file.name,
                    reason,
                });
            }
            tries += 1;
            tokio::time::sleep(delays.next_delay()).await;
        };
        match output.pointer_mut(&file.pointer) {
            Some(place) => *place = Value::String(reference),
            None => return Err(StoreError::NoPlace(file.pointer)),
        }
    }
    Ok(output)
}

/// Tells everybody that a job ended. Said again when the job's message comes again: listeners take it twice.
///
/// # Errors
/// RabbitMQ is away or stalled.
pub async fn announce(shared: &Shared, job: &JobSpec, state: JobState) -> Result<(), PublishError> {
    let topology = &shared.topology;
    let message = message(job.id, &JobEvent::new(job, state));
    let key = topology.event_key(job, state);
    shared
        .publisher
        .announce(&topology.events_exchange(), &key, &message)
        .await
}

/// A message about a job.
pub fn message(job: JobId, content: &impl Versioned) -> Message {
    Message {
        message_id: Some(job.to_string()),
        // Encoding has no way to fail: string keys, no I/O.
        ..Message::new(content.encode().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::File;
    use serde_json::json;
    use warmq_types::ids::AppId;

    fn at(phase: Phase, step: u32) -> Option<Progress> {
        Some(Progress::at(phase, step, 100))
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_ten_times_a_second_and_the_last_step_is_told() {
        let (sender, receiver) = watch::channel(None);
        let mut reports = Throttled::new(receiver);
        let task = tokio::spawn(async move {
            let mut told = Vec::new();
            while let Some(progress) = reports.next().await {
                told.push((progress.phase, progress.step));
            }
            told
        });
        sender.send_replace(at(Phase::Loading, 0));
        tokio::time::sleep(Duration::from_millis(1)).await;
        for step in 1..=100 {
            sender.send_replace(at(Phase::Running, step));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sender.send_replace(at(Phase::Storing, 0));
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(sender);
        let told = task.await.unwrap();
        let phases = |phase| told.iter().filter(|(found, _)| *found == phase).count();
        assert_eq!((phases(Phase::Loading), phases(Phase::Storing)), (1, 1));
        assert!((8..=12).contains(&phases(Phase::Running)), "{told:?}");
    }

    #[tokio::test]
    async fn files_are_stored_and_named_in_the_output() {
        let folder = std::env::temp_dir().join(format!("warmq-report-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let artifacts = Artifacts::open(&url.parse().unwrap()).unwrap();
        let job = JobSpec::new(AppId::parse("a/b").unwrap(), Value::Null);
        let produced = |pointer: &str| Produced {
            output: json!({"images": [{"url": null, "width": 8}]}),
            files: vec![File {
                name: "0.png".to_owned(),
                pointer: pointer.to_owned(),
                bytes: b"png".to_vec(),
            }],
        };
        let output = store_files(&artifacts, &job, "2", produced("/images/0/url"))
            .await
            .unwrap();
        let url = format!("warmq://files/a/b/{}/2/0.png", job.id);
        assert_eq!(output, json!({"images": [{"url": url, "width": 8}]}));
        let misplaced = store_files(&artifacts, &job, "2", produced("/images/1/url")).await;
        assert!(matches!(misplaced, Err(StoreError::NoPlace(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
