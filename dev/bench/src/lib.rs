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
//! | [`faults`] | what one bad runner of four costs, through the real thing |
//! | [`routes`] | what routes cost, through the real thing |
//! | [`stopping`] | the end of a cluster's processes |
//! | [`targets`] | the workloads and values that policy `warm` is held to |
//! | [`lower_bound`] | what no policy can beat |
//! | [`sweep`] | many simulations on all cores |
//! | [`table`] | every row of the targets, measured |
//! | [`curves`], [`chart`] | latency over load and swaps over models, drawn |
//! | [`scaling`] | what a decision costs |

pub mod args;
pub mod chart;
pub mod curves;
pub mod faults;
pub mod lower_bound;
pub mod replay;
pub mod routes;
pub mod scaling;
pub mod schemes;
pub mod simulator;
pub mod stopping;
pub mod sweep;
pub mod table;
pub mod targets;
pub mod trace;
pub mod workload;
