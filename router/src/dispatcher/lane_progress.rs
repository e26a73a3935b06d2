//! Progress of an app's lanes and overflow queues. They are FIFO, so every message published before
//! the newest delivered one has been delivered, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use warmq_process::clock::unix_ms;
use warmq_types::job::{JobSpec, Priority};
use warmq_types::owner_lane::OwnerLane;

/// Creation time of the newest job delivered by each lane, Unix ms; 0 before the first.
#[derive(Debug, Default)]
pub(super) struct LaneProgress {
    normal_ms: AtomicU64,
    low_ms: AtomicU64,
    /// Time of the last delivery of the shared queue, or of the reset, Unix ms.
    shared_ms: AtomicU64,
    /// The overflow queues that may exist, which outlive a session, each with its progress.
    overflows: Mutex<HashMap<OwnerLane, u64>>,
}

impl LaneProgress {
    /// Records a delivered job. A redelivered one is older and changes nothing.
    pub(super) fn note(&self, job: &JobSpec) {
        // The message was published after the record was created.
        self.lane(job.priority)
            .fetch_max(job.created_ms, Ordering::Relaxed);
    }

    /// Records a delivery of the shared queue.
    pub(super) fn note_shared(&self) {
        self.shared_ms.store(unix_ms(), Ordering::Relaxed);
    }

    /// Returns whether the shared queue delivered nothing for `quiet`: its deliveries have
    /// priority, so the dispatcher has then processed all of them.
    pub(super) fn shared_is_quiet(&self, quiet: Duration) -> bool {
        let since_ms = unix_ms().saturating_sub(self.shared_ms.load(Ordering::Relaxed));
        Duration::from_millis(since_ms) >= quiet
    }

    /// Returns the time, Unix ms, before which all messages of the lane have been delivered.
    pub(super) fn until_ms(&self, lane: Priority) -> u64 {
        self.lane(lane).load(Ordering::Relaxed)
    }

    /// Adds an overflow queue, of which nothing was delivered yet.
    pub(super) fn begin_overflow(&self, jobs: OwnerLane) {
        self.overflows_mut().entry(jobs).or_default();
    }

    /// Records a job that an overflow queue delivered.
    pub(super) fn note_overflow(&self, jobs: &OwnerLane, job: &JobSpec) {
        if let Some(passed_ms) = self.overflows_mut().get_mut(jobs) {
            *passed_ms = job.created_ms.max(*passed_ms);
        }
    }

    /// Removes an overflow queue that was deleted.
    pub(super) fn end_overflow(&self, jobs: &OwnerLane) {
        self.overflows_mut().remove(jobs);
    }

    /// Returns the overflow queues, each with the time, Unix ms, before which all of its messages
    /// have been delivered.
    pub(super) fn overflows(&self) -> Vec<(OwnerLane, u64)> {
        let overflows = self.overflows_mut();
        let all = overflows.iter();
        all.map(|(jobs, passed_ms)| (jobs.clone(), *passed_ms))
            .collect()
    }

    /// Resets the progress at the start of a session.
    pub(super) fn reset(&self) {
        for passed_ms in self.overflows_mut().values_mut() {
            *passed_ms = 0;
        }
        for lane in [&self.normal_ms, &self.low_ms] {
            lane.store(0, Ordering::Relaxed);
        }
        self.note_shared();
    }

    fn overflows_mut(&self) -> MutexGuard<'_, HashMap<OwnerLane, u64>> {
        self.overflows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, lane: Priority) -> &AtomicU64 {
        match lane {
            Priority::Normal => &self.normal_ms,
            Priority::Low => &self.low_ms,
        }
    }
}
