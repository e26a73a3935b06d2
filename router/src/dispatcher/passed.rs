//! How far an app's lanes have come. Lanes are first in, first out, so a message that was sent before the newest one that came by
//! has come by, too.

use std::sync::atomic::{AtomicU64, Ordering};

use warmq_common::job::{JobSpec, Priority};

/// When the newest job was created that came by each lane, Unix ms; 0 before the first.
#[derive(Debug, Default)]
pub(super) struct Passed {
    normal_ms: AtomicU64,
    low_ms: AtomicU64,
}

impl Passed {
    /// A job came by. One that comes again says nothing new, as it is older than others that came.
    pub(super) fn note(&self, job: &JobSpec) {
        // Its message was sent after its record was made.
        self.lane(job.priority)
            .fetch_max(job.created_ms, Ordering::Relaxed);
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
    }

    fn lane(&self, lane: Priority) -> &AtomicU64 {
        match lane {
            Priority::Normal => &self.normal_ms,
            Priority::Low => &self.low_ms,
        }
    }
}
