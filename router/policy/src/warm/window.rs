//! The held jobs: by age, by model and by deadline, normal and low apart. Every operation costs
//! O(log jobs).

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use warmq_types::job::Priority;

use super::event::{Avoid, Job, Model};

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

/// Converts to microseconds, since the indexes need integers. Negative times become 0.
fn micros(time_s: f64) -> u64 {
    (time_s * 1e6) as u64
}

#[derive(Debug, Clone, Default)]
struct Lane {
    held: BTreeMap<QueuePosition, HeldJob>,
    by_model: Vec<BTreeSet<QueuePosition>>,
    without_hint: BTreeSet<QueuePosition>,
    /// Jobs whose deadline has passed.
    expired: BTreeSet<QueuePosition>,
    /// Jobs with an avoid list.
    avoiding: BTreeSet<QueuePosition>,
    /// Jobs with a bound of their own, by that bound (µs, rounded down).
    bounds: BTreeSet<(u64, QueuePosition)>,
}

/// All held jobs of one app.
#[derive(Debug, Clone, Default)]
pub struct Window {
    normal: Lane,
    low: Lane,
    positions: FxHashMap<Job, (Priority, QueuePosition)>,
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

    /// Returns how many jobs need each model, with `None` for those without a hint.
    pub fn counts(&self) -> impl Iterator<Item = (Option<Model>, usize)> {
        let lanes = [&self.normal, &self.low];
        let models = lanes.map(|lane| lane.by_model.len()).into_iter().max();
        let of_model = move |index: usize| {
            let queues = lanes.iter().filter_map(|lane| lane.by_model.get(index));
            let model = Model(u32::try_from(index).unwrap_or(u32::MAX));
            (Some(model), queues.map(BTreeSet::len).sum())
        };
        let without_hint = lanes.iter().map(|lane| lane.without_hint.len()).sum();
        (0..models.unwrap_or_default())
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
        match held.model {
            Some(Model(model)) => {
                let index = model as usize;
                if index >= lane.by_model.len() {
                    lane.by_model.resize(index + 1, BTreeSet::new());
                }
                lane.by_model[index].insert(held.position);
            }
            None => {
                lane.without_hint.insert(held.position);
            }
        }
        if !held.avoid.is_empty() {
            lane.avoiding.insert(held.position);
        }
        if held.bound_s.is_finite() {
            lane.bounds.insert((micros(held.bound_s), held.position));
        }
        lane.held.insert(held.position, held);
        self.positions
            .insert(held.job, (held.priority, held.position));
        self.deadlines
            .insert((micros(held.deadline_s), held.position), held.job);
    }

    /// Removes a job; returns `None` if it is not held.
    pub fn remove(&mut self, job: Job) -> Option<HeldJob> {
        let (priority, position) = self.positions.remove(&job)?;
        let lane = self.lane_mut(priority);
        let held = lane.held.remove(&position)?;
        lane.expired.remove(&position);
        lane.avoiding.remove(&position);
        lane.bounds.remove(&(micros(held.bound_s), position));
        match held.model {
            Some(Model(model)) => {
                if let Some(queue) = lane.by_model.get_mut(model as usize) {
                    queue.remove(&position);
                }
            }
            None => {
                lane.without_hint.remove(&position);
            }
        }
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
        let &(priority, _) = self.positions.get(&job)?;
        let lane = self.lane_mut(priority);
        lane.expired.insert(position);
        lane.held.get(&position).copied()
    }

    /// Returns the earliest deadline ahead, s.
    pub fn next_deadline_s(&self) -> Option<f64> {
        let (_, job) = self.deadlines.first_key_value()?;
        let &(priority, position) = self.positions.get(job)?;
        Some(self.get(priority, position)?.deadline_s)
    }

    /// Returns a held job.
    pub fn get(&self, priority: Priority, position: QueuePosition) -> Option<&HeldJob> {
        self.lane(priority).held.get(&position)
    }

    /// Returns the held jobs of a lane, oldest first.
    pub fn oldest_first(&self, priority: Priority) -> impl Iterator<Item = &HeldJob> {
        self.lane(priority).held.values()
    }

    /// Returns the jobs of a lane whose deadline has passed, oldest first.
    pub fn expired(&self, priority: Priority) -> impl Iterator<Item = &HeldJob> {
        let lane = self.lane(priority);
        (lane.expired.iter()).filter_map(|position| lane.held.get(position))
    }

    /// Returns the jobs of a lane whose own bound has passed at `now_s`, in order of these bounds.
    pub fn bound_passed(&self, priority: Priority, now_s: f64) -> impl Iterator<Item = &HeldJob> {
        let lane = self.lane(priority);
        let passed =
            (lane.bounds.iter()).take_while(move |(bound_us, _)| *bound_us <= micros(now_s));
        passed.filter_map(|(_, position)| lane.held.get(position))
    }

    /// Returns the jobs of a lane with an avoid list, oldest first.
    pub fn avoiding(&self, priority: Priority) -> impl Iterator<Item = &HeldJob> {
        let lane = self.lane(priority);
        (lane.avoiding.iter()).filter_map(|position| lane.held.get(position))
    }

    /// Returns the jobs of a lane that need this model, oldest first.
    pub fn of_model(&self, priority: Priority, model: Model) -> impl Iterator<Item = &HeldJob> {
        let lane = self.lane(priority);
        let queue = lane.by_model.get(model.0 as usize);
        (queue.into_iter().flatten()).filter_map(|position| lane.held.get(position))
    }

    /// Returns the jobs of a lane without hint, oldest first.
    pub fn without_hint(&self, priority: Priority) -> impl Iterator<Item = &HeldJob> {
        let lane = self.lane(priority);
        (lane.without_hint.iter()).filter_map(|position| lane.held.get(position))
    }

    /// q(m) in this lane: number of held jobs for the model that precede a new one.
    pub fn queued(&self, priority: Priority, model: Model) -> usize {
        let count = |lane: &Lane| lane.by_model.get(model.0 as usize).map_or(0, BTreeSet::len);
        match priority {
            Priority::Normal => count(&self.normal),
            Priority::Low => count(&self.normal) + count(&self.low),
        }
    }

    /// Returns the number of held jobs.
    pub fn len(&self) -> usize {
        self.positions.len()
    }
}
