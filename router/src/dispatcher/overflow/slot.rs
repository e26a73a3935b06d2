//! Counts a delivery for as long as it exists.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warmq_types::owner_lane::OwnerLane;

use super::admission::Admission;

/// The counts, which slots share with the session's queues.
#[derive(Clone)]
pub(super) struct Counts(Arc<Mutex<Admission>>);

impl Counts {
    pub(super) fn new(admission: Admission) -> Self {
        Self(Arc::new(Mutex::new(admission)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Admission> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a delivery of a lane that stays.
    pub(super) fn hold(&self, jobs: OwnerLane) -> Slot {
        self.lock().hold(&jobs);
        self.slot(jobs, false)
    }

    /// Counts a message that moves to an overflow queue, or that it delivered.
    pub(super) fn enter(&self, jobs: OwnerLane) -> Slot {
        self.lock().enter(&jobs);
        self.slot(jobs, true)
    }

    fn slot(&self, jobs: OwnerLane, overflows: bool) -> Slot {
        Slot {
            counts: self.clone(),
            jobs,
            overflows,
        }
    }
}

/// A counted delivery, until it is dropped: after its ack or nack, or with its session.
pub(in super::super) struct Slot {
    counts: Counts,
    jobs: OwnerLane,
    /// Whether it is counted for an overflow queue.
    overflows: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut admission = self.counts.lock();
        match self.overflows {
            true => admission.leave(&self.jobs),
            false => admission.release(&self.jobs),
        }
    }
}
