//! The held jobs: by age, by model and by deadline, apart for each lane and owner. Every operation
//! costs O(log jobs).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use warmq_types::job::Priority;

use super::event::{Avoid, Job, Model, Owner};

/// The lanes, in order.
pub const LANES: [Priority; 2] = [Priority::Normal, Priority::Low];

/// Position among the held jobs: by acceptance, then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePosition {
    since_us: u64,
    count: u64,
}

/// A held job, or one that was sent and may come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldJob {
    /// Number of the job.
    pub job: Job,
    /// Required model.
    pub model: Option<Model>,
    /// Lane of the job.
    pub priority: Priority,
    /// Its owner.
    pub owner: Owner,
    /// Time of acceptance, s.
    pub since_s: f64,
    /// When it becomes eligible for any idle runner, s.
    pub deadline_s: f64,
    /// Its own bound on holding, s; infinite without one.
    pub bound_s: f64,
    /// Runners on which an attempt failed.
    pub avoid: Avoid,
    /// Position in the window.
    pub position: QueuePosition,
}

/// The held jobs of one owner in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub priority: Priority,
    pub owner: Owner,
}

impl HeldJob {
    /// Returns the backlog that contains the job while it is held.
    pub fn backlog(&self) -> Backlog {
        Backlog {
            priority: self.priority,
            owner: self.owner,
        }
    }
}

/// Converts to microseconds, since the indexes need integers. Negative times become 0.
pub fn micros(time_s: f64) -> u64 {
    (time_s * 1e6) as u64
}

#[derive(Debug, Clone, Default)]
struct Jobs {
    held: BTreeMap<QueuePosition, HeldJob>,
    by_model: FxHashMap<Model, BTreeSet<QueuePosition>>,
    without_hint: BTreeSet<QueuePosition>,
    /// Jobs whose deadline has passed.
    expired: BTreeSet<QueuePosition>,
    /// Jobs with an avoid list.
    avoiding: BTreeSet<QueuePosition>,
    /// Jobs with a bound of their own, by that bound (µs, rounded down).
    bounds: BTreeSet<(u64, QueuePosition)>,
}

impl Jobs {
    /// Returns the jobs at these positions.
    fn at<'a>(
        &'a self,
        positions: &'a BTreeSet<QueuePosition>,
    ) -> impl Iterator<Item = &'a HeldJob> {
        positions
            .iter()
            .filter_map(|position| self.held.get(position))
    }
}

/// The held jobs of all owners in one lane.
#[derive(Debug, Clone, Default)]
struct Lane {
    /// By the owner's number.
    owners: Vec<Jobs>,
    /// Owners with held jobs.
    waiting: BTreeSet<Owner>,
    /// Held jobs of each model, by its number.
    by_model: Vec<usize>,
    without_hint: usize,
}

impl Lane {
    /// Returns the counter of the jobs that need this model.
    fn count_mut(&mut self, model: Option<Model>) -> &mut usize {
        let Some(Model(model)) = model else {
            return &mut self.without_hint;
        };
        let index = model as usize;
        if index >= self.by_model.len() {
            self.by_model.resize(index + 1, 0);
        }
        &mut self.by_model[index]
    }

    fn count(&self, model: Model) -> usize {
        self.by_model.get(model.0 as usize).copied().unwrap_or(0)
    }
}

/// All held jobs of one app.
#[derive(Debug, Clone, Default)]
pub struct Window {
    normal: Lane,
    low: Lane,
    positions: FxHashMap<Job, (Backlog, QueuePosition)>,
    /// Deadlines that have not passed, µs, rounded down.
    deadlines: BTreeMap<(u64, QueuePosition), Job>,
    count: u64,
}

impl Window {
    fn lane(&self, priority: Priority) -> &Lane {
        match priority {
            Priority::Normal => &self.normal,
            Priority::Low => &self.low,
        }
    }

    fn lane_mut(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::Low => &mut self.low,
        }
    }

    /// Returns the jobs of a backlog; `None` if it never had any.
    fn jobs(&self, backlog: Backlog) -> Option<&Jobs> {
        let lane = self.lane(backlog.priority);
        lane.owners.get(backlog.owner.0 as usize)
    }

    /// Returns the owners with held jobs in a lane.
    pub fn owners(&self, priority: Priority) -> impl Iterator<Item = Owner> {
        self.lane(priority).waiting.iter().copied()
    }

    /// Returns how many jobs of each owner are held.
    pub fn counts_of_owners(&self) -> impl Iterator<Item = (Owner, usize)> {
        let owners: BTreeSet<Owner> = self
            .normal
            .waiting
            .union(&self.low.waiting)
            .copied()
            .collect();
        owners.into_iter().map(|owner| {
            let jobs = LANES.map(|priority| self.jobs(Backlog { priority, owner }));
            let held = jobs.into_iter().flatten().map(|jobs| jobs.held.len());
            (owner, held.sum())
        })
    }

    /// Returns whether any job of this owner is held.
    pub fn has_jobs_of(&self, owner: Owner) -> bool {
        self.normal.waiting.contains(&owner) || self.low.waiting.contains(&owner)
    }

    /// Returns how many jobs need each model, with `None` for those without a hint.
    pub fn counts(&self) -> impl Iterator<Item = (Option<Model>, usize)> {
        let models = self.normal.by_model.len().max(self.low.by_model.len());
        let of_model = |index: usize| {
            let model = Model(u32::try_from(index).unwrap_or(u32::MAX));
            let count = self.normal.count(model) + self.low.count(model);
            (Some(model), count)
        };
        let without_hint = self.normal.without_hint + self.low.without_hint;
        (0..models)
            .map(of_model)
            .chain([(None, without_hint)])
            .filter(|(_, count)| *count > 0)
    }

    /// Returns the next position for a job accepted at `since_s`.
    pub fn next_position(&mut self, since_s: f64) -> QueuePosition {
        self.count += 1;
        QueuePosition {
            since_us: micros(since_s),
            count: self.count,
        }
    }

    /// Adds a job.
    pub fn insert(&mut self, held: HeldJob) {
        self.remove(held.job);
        let lane = self.lane_mut(held.priority);
        *lane.count_mut(held.model) += 1;
        lane.waiting.insert(held.owner);
        let owner = held.owner.0 as usize;
        if owner >= lane.owners.len() {
            lane.owners.resize_with(owner + 1, Jobs::default);
        }
        let jobs = &mut lane.owners[owner];
        match held.model {
            Some(model) => jobs.by_model.entry(model).or_default(),
            None => &mut jobs.without_hint,
        }
        .insert(held.position);
        if !held.avoid.is_empty() {
            jobs.avoiding.insert(held.position);
        }
        if held.bound_s.is_finite() {
            jobs.bounds.insert((micros(held.bound_s), held.position));
        }
        jobs.held.insert(held.position, held);
        self.positions
            .insert(held.job, (held.backlog(), held.position));
        self.deadlines
            .insert((micros(held.deadline_s), held.position), held.job);
    }

    /// Removes a job; returns `None` if it is not held.
    pub fn remove(&mut self, job: Job) -> Option<HeldJob> {
        let (backlog, position) = self.positions.remove(&job)?;
        let lane = self.lane_mut(backlog.priority);
        let jobs = lane.owners.get_mut(backlog.owner.0 as usize)?;
        let held = jobs.held.remove(&position)?;
        jobs.expired.remove(&position);
        jobs.avoiding.remove(&position);
        jobs.bounds.remove(&(micros(held.bound_s), position));
        match held.model {
            Some(model) => {
                if let Entry::Occupied(mut queue) = jobs.by_model.entry(model) {
                    queue.get_mut().remove(&position);
                    if queue.get().is_empty() {
                        queue.remove();
                    }
                }
            }
            None => {
                jobs.without_hint.remove(&position);
            }
        }
        if jobs.held.is_empty() {
            lane.waiting.remove(&backlog.owner);
        }
        *lane.count_mut(held.model) -= 1;
        self.deadlines.remove(&(micros(held.deadline_s), position));
        Some(held)
    }

    /// Removes one passed deadline, and marks its job as expired.
    pub fn pop_due(&mut self, now_s: f64) -> Option<HeldJob> {
        let (&(deadline_us, position), &job) = self.deadlines.first_key_value()?;
        if deadline_us > micros(now_s) {
            return None;
        }
        self.deadlines.pop_first();
        let &(backlog, _) = self.positions.get(&job)?;
        let lane = self.lane_mut(backlog.priority);
        let jobs = lane.owners.get_mut(backlog.owner.0 as usize)?;
        jobs.expired.insert(position);
        jobs.held.get(&position).copied()
    }

    /// Returns the earliest deadline ahead, s.
    pub fn next_deadline_s(&self) -> Option<f64> {
        let (_, job) = self.deadlines.first_key_value()?;
        let &(backlog, position) = self.positions.get(job)?;
        let held = self.jobs(backlog)?.held.get(&position)?;
        Some(held.deadline_s)
    }

    /// Returns the held jobs of a backlog, oldest first.
    pub fn oldest_first(&self, backlog: Backlog) -> impl Iterator<Item = &HeldJob> {
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(|jobs| jobs.held.values())
    }

    /// Returns the jobs of a backlog whose deadline has passed, oldest first.
    pub fn expired(&self, backlog: Backlog) -> impl Iterator<Item = &HeldJob> {
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(|jobs| jobs.at(&jobs.expired))
    }

    /// Returns the jobs of a backlog whose own bound has passed at `now_s`, in order of these
    /// bounds.
    pub fn bound_passed(&self, backlog: Backlog, now_s: f64) -> impl Iterator<Item = &HeldJob> {
        let now_us = micros(now_s);
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(move |jobs| {
            let passed = (jobs.bounds.iter()).take_while(move |(bound_us, _)| *bound_us <= now_us);
            passed.filter_map(|(_, position)| jobs.held.get(position))
        })
    }

    /// Returns the jobs of a backlog with an avoid list, oldest first.
    pub fn avoiding(&self, backlog: Backlog) -> impl Iterator<Item = &HeldJob> {
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(|jobs| jobs.at(&jobs.avoiding))
    }

    /// Returns the jobs of a backlog that need this model, oldest first.
    pub fn of_model(&self, backlog: Backlog, model: Model) -> impl Iterator<Item = &HeldJob> {
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(move |jobs| jobs.by_model.get(&model).map(|queue| jobs.at(queue)))
            .flatten()
    }

    /// Returns the jobs of a backlog without hint, oldest first.
    pub fn without_hint(&self, backlog: Backlog) -> impl Iterator<Item = &HeldJob> {
        let jobs = self.jobs(backlog).into_iter();
        jobs.flat_map(|jobs| jobs.at(&jobs.without_hint))
    }

    /// q(m) in this lane: number of held jobs for the model that precede a new one.
    pub fn queued(&self, priority: Priority, model: Model) -> usize {
        match priority {
            Priority::Normal => self.normal.count(model),
            Priority::Low => self.normal.count(model) + self.low.count(model),
        }
    }

    /// Returns the number of jobs of a backlog that need this model.
    pub fn queued_of(&self, backlog: Backlog, model: Model) -> usize {
        let queue = self
            .jobs(backlog)
            .and_then(|jobs| jobs.by_model.get(&model));
        queue.map_or(0, BTreeSet::len)
    }

    /// Returns the number of held jobs.
    pub fn len(&self) -> usize {
        self.positions.len()
    }
}
