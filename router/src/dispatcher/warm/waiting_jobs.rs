//! The jobs without a runner and their unacknowledged deliveries, by the policy's numbers.

use std::collections::HashMap;

use warmq_policy::warm::Job;
use warmq_types::ids::JobId;
use warmq_types::job::Hold;

use super::super::lanes::JobDelivery;

/// A job in the dispatcher without a runner.
pub(super) struct WaitingJob {
    pub(super) delivered: JobDelivery,
    /// Time of arrival, s on the dispatcher's clock.
    pub(super) since_s: f64,
    /// The latest hold, if any.
    pub(super) hold: Option<Hold>,
    /// Whether its record has that hold.
    pub(super) hold_is_recorded: bool,
    /// Number of refused claims.
    pub(super) refused_claims: u32,
}

#[derive(Default)]
pub(super) struct WaitingJobs {
    jobs: HashMap<Job, WaitingJob>,
    numbers: HashMap<JobId, Job>,
    last: u64,
}

impl WaitingJobs {
    /// Adds a job under a number. If the job is known already, its newer delivery replaces the
    /// older one, which is returned.
    pub(super) fn insert(
        &mut self,
        delivered: JobDelivery,
        since_s: f64,
    ) -> (Job, Option<JobDelivery>) {
        if let Some(number) = self.numbers.get(&delivered.job.id)
            && let Some(waiting) = self.jobs.get_mut(number)
        {
            return (
                *number,
                Some(std::mem::replace(&mut waiting.delivered, delivered)),
            );
        }
        self.last += 1;
        let number = Job(self.last);
        let waiting = WaitingJob {
            delivered,
            since_s,
            hold: None,
            hold_is_recorded: false,
            refused_claims: 0,
        };
        self.put_back(number, waiting);
        (number, None)
    }

    /// Adds a removed job again.
    pub(super) fn put_back(&mut self, number: Job, waiting: WaitingJob) {
        self.numbers.insert(waiting.delivered.job.id, number);
        self.jobs.insert(number, waiting);
    }

    pub(super) fn get(&self, number: Job) -> Option<&WaitingJob> {
        self.jobs.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: Job) -> Option<&mut WaitingJob> {
        self.jobs.get_mut(&number)
    }

    /// Returns the number of a job.
    pub(super) fn number(&self, job: JobId) -> Option<Job> {
        self.numbers.get(&job).copied()
    }

    pub(super) fn remove(&mut self, number: Job) -> Option<WaitingJob> {
        let waiting = self.jobs.remove(&number)?;
        self.numbers.remove(&waiting.delivered.job.id);
        Some(waiting)
    }

    /// Returns the held jobs whose record lacks the latest hold.
    pub(super) fn with_unrecorded_hold(&self) -> Vec<Job> {
        let unrecorded = (self.jobs.iter())
            .filter(|(_, waiting)| waiting.hold.is_some() && !waiting.hold_is_recorded);
        unrecorded.map(|(number, _)| *number).collect()
    }

    /// Returns the jobs that arrived before `time_s`.
    pub(super) fn older_than(&self, time_s: f64) -> Vec<Job> {
        let old = self.jobs.iter().filter(|(_, job)| job.since_s < time_s);
        old.map(|(number, _)| *number).collect()
    }
}
