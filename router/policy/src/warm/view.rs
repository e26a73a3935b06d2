//! The read-only state of a decision.

use smallvec::SmallVec;
use warmq_types::job::Priority;
use warmq_types::tier::Tier;

use super::constants::Constants;
use super::estimates::Estimates;
use super::event::{FleetView, Model, Owner, Runner};
use super::fleet::Fleet;
use super::shares::Shares;
use super::window::{Backlog, HeldJob, Window};

/// The policy's state at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub constants: &'a Constants,
    pub estimates: &'a Estimates,
    pub fleet: &'a Fleet,
    pub window: &'a Window,
    pub shares: &'a Shares,
    /// Counts only the held jobs of this owner: those of others do not precede its jobs.
    pub only: Option<Owner>,
    pub now_s: f64,
}

impl View<'_> {
    /// Returns the fleet with respect to a model.
    pub fn fleet_view(&self, model: Option<Model>) -> FleetView {
        FleetView {
            live: self.fleet.live_count(),
            idle: self.fleet.idle_count(),
            holders: model.map_or(0, |model| self.fleet.copies(model)),
            ram_holders: model.map_or(0, |model| self.fleet.ram_holders.count(model)),
            served: model.is_none_or(|model| self.fleet.catalogs.is_served(model)),
        }
    }

    /// Returns the backlogs of a lane from which jobs may be sent, in the order of their owners.
    pub fn backlogs(&self, priority: Priority) -> SmallVec<[Backlog; 4]> {
        let owners = self.window.owners(priority);
        let mut backlogs: SmallVec<[Backlog; 4]> = owners
            .filter(|owner| !self.shares.is_at_limit(*owner))
            .map(|owner| Backlog { priority, owner })
            .collect();
        backlogs.sort_by(|a, b| self.shares.compare(a.owner, b.owner));
        backlogs
    }

    /// q(m): number of held jobs for the model that precede a new one of this lane.
    pub fn queued(&self, priority: Priority, model: Model) -> usize {
        match self.only {
            None => self.window.queued(priority, model),
            Some(owner) => self.window.queued_of(Backlog { priority, owner }, model),
        }
    }

    /// Returns S, the run time of a job that needs this model, s.
    pub fn run_s(&self, model: Option<Model>) -> f64 {
        model.map_or(self.estimates.any_run_s(), |model| {
            self.estimates.run_s(model)
        })
    }

    /// Returns the load time of a model on a runner, by where it has it, s.
    pub fn load_on_s(&self, runner: Runner, model: Model) -> f64 {
        match self.fleet.get(runner).tier(model) {
            Tier::Device => 0.0,
            Tier::Ram => self.estimates.ram_load_s(model),
            Tier::Disk => self.estimates.load_s(model),
        }
    }

    /// Returns the part of L(m) that a load from RAM takes, at most 1.
    pub fn ram_part(&self, model: Model) -> f64 {
        let disk_s = self.estimates.load_s(model);
        match disk_s > 0.0 {
            true => (self.estimates.ram_load_s(model) / disk_s).min(1.0),
            false => 1.0,
        }
    }

    /// Returns the number of runners with the model in RAM; 0 if its files are read as fast.
    pub fn useful_ram_holders(&self, model: Model) -> usize {
        match self.ram_part(model) < 1.0 {
            true => self.fleet.ram_holders.count(model),
            false => 0,
        }
    }

    /// Returns L, the load time of this model, s.
    pub fn load_s(&self, model: Option<Model>) -> f64 {
        model.map_or(self.estimates.any_load_s(), |model| {
            self.estimates.load_s(model)
        })
    }

    /// Returns D = 6 · max(S, L), s.
    pub fn overdue_s(&self, model: Option<Model>) -> f64 {
        self.constants.overdue * self.run_s(model).max(self.load_s(model))
    }

    /// Returns whether a job is older than D.
    pub fn is_overdue(&self, held: &HeldJob) -> bool {
        self.now_s - held.since_s > self.overdue_s(held.model)
    }
}
