//! How far an app's lanes have come. Lanes are first in, first out, so a message that was sent before the newest one that came by
//! has come by, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use warmq_process::clock::unix_ms;
use warmq_types::job::{JobSpec, Priority};

/// When the newest job was created that came by each lane, Unix ms; 0 before the first.
#[derive(Debug, Default)]
pub(super) struct LaneProgress {
    normal_ms: AtomicU64,
    low_ms: AtomicU64,
    /// When a message of the shared queue came by, or this began, Unix ms.
    shared_ms: AtomicU64,
}

impl LaneProgress {
    /// A job came by. One that comes again says nothing new, as it is older than others that came.
    pub(super) fn note(&self, job: &JobSpec) {
        // Its message was sent after its record was made.
        self.lane(job.priority)
            .fetch_max(job.created_ms, Ordering::Relaxed);
    }

    /// A message of the shared queue came by.
    pub(super) fn note_shared(&self) {
        self.shared_ms.store(unix_ms(), Ordering::Relaxed);
    }

    /// Returns whether no message of the shared queue has come by for `quiet`: the dispatcher holds none that it has not
    /// taken in, since it takes these first.
    pub(super) fn shared_is_quiet(&self, quiet: Duration) -> bool {
        let since_ms = unix_ms().saturating_sub(self.shared_ms.load(Ordering::Relaxed));
        Duration::from_millis(since_ms) >= quiet
    }

    /// All messages of the lane that were sent before this have come by, Unix ms.
    pub(super) fn until_ms(&self, lane: Priority) -> u64 {
        self.lane(lane).load(Ordering::Relaxed)
    }

    /// Nothing has come by yet.
    pub(super) fn reset(&self) {
        for lane in [&self.normal_ms, &self.low_ms] {
            lane.store(0, Ordering::Relaxed);
        }
        self.note_shared();
    }

    fn lane(&self, lane: Priority) -> &AtomicU64 {
        match lane {
            Priority::Normal => &self.normal_ms,
            Priority::Low => &self.low_ms,
        }
    }
}
