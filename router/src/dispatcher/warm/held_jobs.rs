//! The held jobs, unacknowledged, by the numbers that the policy knows them by.

use std::collections::HashMap;

use warmq_policy::warm::Job;
use warmq_types::ids::JobId;
use warmq_types::job::Hold;

use super::super::lanes::JobDelivery;

/// A job in the dispatcher's hands.
pub(super) struct HeldDelivery {
    /// The job and its delivery.
    pub(super) held: JobDelivery,
    /// When it came, s on the dispatcher's clock.
    pub(super) since_s: f64,
    /// That it is held, once it is.
    pub(super) hold: Option<Hold>,
    /// Claims that it lost.
    pub(super) refused_claims: u32,
}

/// The jobs in the dispatcher's hands that have no runner yet.
#[derive(Default)]
pub(super) struct HeldJobs {
    jobs: HashMap<Job, HeldDelivery>,
    numbers: HashMap<JobId, Job>,
    last: u64,
}

impl HeldJobs {
    /// Takes a job in, under a number. If it was held already, its newer delivery takes the place of the older one, which
    /// is returned.
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

    /// A job that was taken out is held again.
    pub(super) fn put_back(&mut self, number: Job, waiting: HeldDelivery) {
        self.numbers.insert(waiting.held.job.id, number);
        self.jobs.insert(number, waiting);
    }

    /// A held job.
    pub(super) fn get_mut(&mut self, number: Job) -> Option<&mut HeldDelivery> {
        self.jobs.get_mut(&number)
    }

    /// The number of a job that is held.
    pub(super) fn number(&self, job: JobId) -> Option<Job> {
        self.numbers.get(&job).copied()
    }

    /// Takes a job out.
    pub(super) fn remove(&mut self, number: Job) -> Option<HeldDelivery> {
        let waiting = self.jobs.remove(&number)?;
        self.numbers.remove(&waiting.held.job.id);
        Some(waiting)
    }

    /// The jobs that came before `time_s`.
    pub(super) fn older_than(&self, time_s: f64) -> Vec<Job> {
        let old = self.jobs.iter().filter(|(_, job)| job.since_s < time_s);
        old.map(|(number, _)| *number).collect()
    }
}
