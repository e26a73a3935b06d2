//! LARD/R, locality-aware request distribution with replication (Pai et al. 1998): each model has a
//! set of runners; a job is sent to the least loaded of the set; the set grows when that one is
//! overloaded, and shrinks when it has been stable.

use super::Scheme;
use crate::simulator::{Job, SchemeContext};

/// A runner with fewer jobs is lightly loaded.
const LOW: usize = 1;

#[derive(Clone, Default)]
struct Servers {
    runners: Vec<usize>,
    changed_s: f64,
}

pub struct LardScheme {
    servers: Vec<Servers>,
    /// A runner with more jobs is overloaded.
    high: usize,
    /// Time after which an unchanged set loses its most loaded runner, s.
    shrink_s: f64,
}

impl LardScheme {
    /// Creates the scheme. A runner is overloaded if the wait exceeds a load: more than L/S jobs. A
    /// set shrinks after the paper's 20 s, or two loads.
    pub fn new(load_ratio: f64, load_s: f64, models: u32) -> Self {
        Self {
            servers: vec![Servers::default(); models as usize],
            high: (load_ratio.ceil() as usize).max(2),
            shrink_s: (2.0 * load_s).max(20.0),
        }
    }
}

impl Scheme for LardScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let fleet = context.fleet;
        let Some(lightest) = fleet.least_loaded() else {
            // No runner is up: the job is sent to the first one, which rejects it.
            context.send(job.id, 0);
            return;
        };
        let load = |runner: usize| fleet.runners[runner].load();
        let servers = &mut self.servers[job.model as usize];
        servers.runners.retain(|runner| fleet.runners[*runner].up);
        let best = servers
            .runners
            .iter()
            .copied()
            .min_by_key(|runner| load(*runner));
        let chosen = match best {
            Some(best)
                if !(load(best) > self.high && load(lightest) < LOW
                    || load(best) >= 2 * self.high && lightest != best) =>
            {
                best
            }
            _ => {
                if !servers.runners.contains(&lightest) {
                    servers.runners.push(lightest);
                    servers.changed_s = context.now_s;
                }
                lightest
            }
        };
        if servers.runners.len() > 1 && context.now_s - servers.changed_s > self.shrink_s {
            let positions = (0..servers.runners.len()).filter(|at| servers.runners[*at] != chosen);
            if let Some(worst) = positions.max_by_key(|at| load(servers.runners[*at])) {
                servers.runners.swap_remove(worst);
                servers.changed_s = context.now_s;
            }
        }
        context.send(job.id, chosen);
    }
}
