//! The read-only state of a decision.

use super::constants::Constants;
use super::estimates::Estimates;
use super::event::{FleetView, Model};
use super::fleet::Fleet;
use super::window::{HeldJob, Window};

/// The policy's state at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub constants: &'a Constants,
    pub estimates: &'a Estimates,
    pub fleet: &'a Fleet,
    pub window: &'a Window,
    pub now_s: f64,
}

impl View<'_> {
    /// Returns the fleet with respect to a model.
    pub fn fleet_view(&self, model: Option<Model>) -> FleetView {
        FleetView {
            idle: self.fleet.idle_count(),
            holders: model.map_or(0, |model| self.fleet.copies(model)),
            served: model.is_none_or(|model| self.fleet.catalogs.is_served(model)),
        }
    }

    /// Returns S, the run time of a job that needs this model, s.
    pub fn run_s(&self, model: Option<Model>) -> f64 {
        model.map_or(self.estimates.any_run_s(), |model| {
            self.estimates.run_s(model)
        })
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
