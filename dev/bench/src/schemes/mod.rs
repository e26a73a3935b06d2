//! The policies that the simulator can run. `warm` and `fal` drive the router's own code; the others are what people use
//! or could use instead, here to compare with.

mod fal;
mod hash;
mod lard;
mod multiplex;
mod shared;
mod warm;

pub use warm::{PolicyEvent, WarmScheme};

use warmq_policy::warm::Constants;

use crate::args::{Options, PolicyName};
use crate::simulator::{Job, Report, SchemeContext};

/// A policy in the simulator. It hears what happens and orders sends; a job that it neither sends nor keeps is lost.
pub trait Scheme {
    /// A job arrived.
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>);

    /// A runner told something of itself.
    fn on_report(&mut self, _runner: usize, _report: &Report, _orders: &mut SchemeContext<'_>) {}

    /// A runner ended a job and went on with its queue.
    fn on_progress(&mut self, _orders: &mut SchemeContext<'_>) {}

    /// The runner that a job was sent to is gone.
    fn on_refusal(&mut self, job: &Job, _runner: usize, context: &mut SchemeContext<'_>) {
        self.on_arrival(job, context);
    }

    /// The time that it asked for with `next_due_s` has come.
    fn on_due(&mut self, _orders: &mut SchemeContext<'_>) {}

    /// When it wants to be asked again though nothing happened, s.
    fn next_due_s(&self) -> Option<f64> {
        None
    }

    /// It decides on what runners report, so `--view-delay-ms` touches it. False if runners fetch for themselves, or if it
    /// knows only what it sent.
    fn learns_by_reports(&self) -> bool {
        false
    }
}

/// The scheme that the options name. `models`: how many models the workload has; `constants`: policy `warm`'s.
pub fn make(options: &Options, models: u32, constants: &Constants) -> Box<dyn Scheme> {
    let runners = options.runners as usize;
    let load_ratio = options.load_ratio;
    match options.policy {
        PolicyName::Warm => Box::new(warm::WarmScheme::new(constants, options.slots as usize)),
        PolicyName::Fal => Box::new(fal::FalScheme::new(runners, models)),
        PolicyName::Shared => Box::new(shared::SharedScheme::new(runners)),
        PolicyName::Hash => Box::new(hash::HashScheme::new(runners)),
        PolicyName::Lard => {
            let load_s = load_ratio * options.service_s;
            Box::new(lard::LardScheme::new(load_ratio, load_s, models))
        }
        PolicyName::Multiplex => Box::new(multiplex::MultiplexScheme::default()),
    }
}
