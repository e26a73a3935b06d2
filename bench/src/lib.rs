//! What a fleet does under a routing policy, computed on a virtual clock: no servers, no waiting, the same result for the
//! same seed. [`replay`] holds it against real servers.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`workload`] | which jobs come when: Poisson, bursts, drifting popularity, traces |
//! | [`trace`] | traces as JSON lines |
//! | [`simulator`] | the clock, the runners and their caches, what is measured |
//! | [`schemes`] | the policies: `warm` and `fal` are the router's own code, the others are here to compare with |
//! | [`replay`] | the same trace through the simulator and through the real thing |
//! | [`table`] | measures every row of the targets |

pub mod args;
pub mod replay;
pub mod schemes;
pub mod simulator;
pub mod table;
pub mod trace;
pub mod workload;
