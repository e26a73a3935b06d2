//! The held jobs with their unacknowledged deliveries, by the policy's numbers.

use std::collections::HashMap;

use warmq_policy::warm::Job;
use warmq_types::ids::JobId;
use warmq_types::job::Hold;

use super::super::lanes::JobDelivery;

/// A job in the dispatcher without a runner.
pub(super) struct HeldDelivery {
    pub(super) held: JobDelivery,
    /// Time of arrival, s on the dispatcher's clock.
    pub(super) since_s: f64,
    /// The recorded hold, if any.
    pub(super) hold: Option<Hold>,
    /// Number of refused claims.
    pub(super) refused_claims: u32,
}

#[derive(Default)]
pub(super) struct HeldJobs {
    jobs: HashMap<Job, HeldDelivery>,
    numbers: HashMap<JobId, Job>,
    last: u64,
}

impl HeldJobs {
    /// Adds a job under a number. If the job is held already, its newer delivery replaces the older
    /// one, which is returned.
    pub(super) fn insert(&mut self, held: JobDelivery, since_s: f64) -> (Job, Option<JobDelivery>) {
        if let Some(number) = self.numbers.get(&held.job.id)
            && let Some(waiting) = self.jobs.get_mut(number)
        {
            return (*number, Some(std::mem::replace(&mut waiting.held, held)));
        }
        self.last += 1;
        let number = Job(self.last);
        let waiting = HeldDelivery {
            held,
            since_s,
            hold: None,
            refused_claims: 0,
        };
        self.put_back(number, waiting);
        (number, None)
    }

    /// Adds a removed job again.
    pub(super) fn put_back(&mut self, number: Job, waiting: HeldDelivery) {
        self.numbers.insert(waiting.held.job.id, number);
        self.jobs.insert(number, waiting);
    }

    pub(super) fn get(&self, number: Job) -> Option<&HeldDelivery> {
        self.jobs.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: Job) -> Option<&mut HeldDelivery> {
        self.jobs.get_mut(&number)
    }

    /// Returns the number of a held job.
    pub(super) fn number(&self, job: JobId) -> Option<Job> {
        self.numbers.get(&job).copied()
    }

    pub(super) fn remove(&mut self, number: Job) -> Option<HeldDelivery> {
        let waiting = self.jobs.remove(&number)?;
        self.numbers.remove(&waiting.held.job.id);
        Some(waiting)
    }

    /// Returns the jobs that arrived before `time_s`.
    pub(super) fn older_than(&self, time_s: f64) -> Vec<Job> {
        let old = self.jobs.iter().filter(|(_, job)| job.since_s < time_s);
        old.map(|(number, _)| *number).collect()
    }
}
