//! The simulator's policies. `warm` and `fal` run the router's own code; the others are common
//! alternatives, for comparison.

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

/// A policy in the simulator: it receives events and sends jobs. A job that it neither sends nor
/// keeps is lost.
pub trait Scheme {
    /// Handles the arrival of a job.
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>);

    /// Handles a runner's report.
    fn on_report(&mut self, _runner: usize, _report: &Report, _orders: &mut SchemeContext<'_>) {}

    /// Handles the end of a job on a runner that continues with its queue.
    fn on_progress(&mut self, _orders: &mut SchemeContext<'_>) {}

    /// Handles the rejection of a job whose runner is gone.
    fn on_refusal(&mut self, job: &Job, _runner: usize, context: &mut SchemeContext<'_>) {
        self.on_arrival(job, context);
    }

    /// Handles the time requested by `next_due_s`.
    fn on_due(&mut self, _orders: &mut SchemeContext<'_>) {}

    /// Returns when to call `on_due` if nothing else happens, s.
    fn next_due_s(&self) -> Option<f64> {
        None
    }

    /// Returns whether the policy decides by runners' reports, which `--view-delay-ms` delays.
    /// False if runners consume a queue themselves, or if it uses only what it sent.
    fn learns_by_reports(&self) -> bool {
        false
    }
}

/// Creates the scheme of the options. `models`: number of models of the workload; `constants`:
/// policy `warm`'s.
pub fn make(options: &Options, models: u32, constants: &Constants) -> Box<dyn Scheme> {
    let runners = options.runners as usize;
    let load_ratio = options.load_ratio;
    match options.policy {
        PolicyName::Warm => Box::new(warm::WarmScheme::new(constants, options)),
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
