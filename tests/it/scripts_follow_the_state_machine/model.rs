//! The job as the table of states and its guards expect it.

use warmq_store::Unavailable;
use warmq_types::ids::Fence;
use warmq_types::state::{JobState, Transition};

/// The expected job: the table and its guards.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) max_attempts: u32,
    pub(super) job: Option<Job>,
    /// The previous end, once the record is gone.
    pub(super) ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    TakenBack,
    Kept,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) state: JobState,
    pub(super) attempt: u32,
    pub(super) fence: u64,
    pub(super) leased: bool,
    /// The runner, while the job runs.
    pub(super) runner: Option<usize>,
    pub(super) quarantined: bool,
    /// The next attempt is not due.
    pub(super) parked: bool,
    /// Submissions that did not fail.
    pub(super) submissions: i64,
}

impl Model {
    /// Applies a transition that the table must allow.
    pub(super) fn apply(&mut self, made: Transition) -> &mut Job {
        let job = self.job.as_mut().expect("there is a job");
        job.state = job
            .state
            .after(made)
            .expect("a script made an illegal move");
        job
    }

    /// Returns why the job cannot be sent or started, without times.
    pub(super) fn unavailable(&self) -> Option<Unavailable> {
        let Some(job) = self.job else {
            return Some(match self.ended {
                Some(_) => Unavailable::Gone,
                None => Unavailable::Missing,
            });
        };
        match job.state {
            state if state.is_terminal() => Some(Unavailable::Terminal(state)),
            JobState::Running if job.leased => Some(Unavailable::Leased { remaining_ms: 0 }),
            JobState::Running => Some(Unavailable::Lost),
            _ if job.attempt >= self.max_attempts => Some(Unavailable::Spent),
            _ if job.parked => Some(Unavailable::Parked { remaining_ms: 0 }),
            _ => None,
        }
    }

    /// Returns how many waiting or running jobs the owner has.
    pub(super) fn active(&self) -> u64 {
        let ended = |job: Job| job.state.is_terminal();
        u64::from(self.job.is_some_and(|job| !ended(job)))
    }

    pub(super) fn runs(&self) -> bool {
        self.job.is_some_and(|job| job.state == JobState::Running)
    }

    /// Returns the fence that a caller passes.
    pub(super) fn fence(&self, ours: bool) -> Fence {
        let latest = self.job.map_or(0, |job| job.fence);
        Fence(if ours { latest } else { latest + 7 })
    }
}
