//! Simulates a fleet under a routing policy on a virtual clock: no servers, no waiting, the same
//! result for the same seed. [`replay`] compares it with real servers.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`workload`] | arrivals: Poisson, bursts, drifting popularity, traces |
//! | [`trace`] | traces as JSON lines |
//! | [`simulator`] | the clock, the runners and their caches, the measures |
//! | [`schemes`] | the policies: the router's `warm` and `fal`, and others to compare with |
//! | [`replay`] | the same trace through the simulator and the real system |
//! | [`faulty_runner`] | the cost of one faulty runner of four, in the real system |
//! | [`routes`] | the cost of routes, in the real system |
//! | [`peers`] | warmq beside other job queues and the bare transport |
//! | [`http`] | the cost of the queue before a model server, in the real system |
//! | [`growth`] | the cost of a job and of idle processes with 8 and 500 runners, a long queue |
//! | `interruptible` | runs a measurement until it ends or Ctrl-C |
//! | [`targets`] | workloads and target values of policy `warm` |
//! | [`pooled_bound`] | the pooled bound |
//! | [`sweep`] | many simulations on all cores |
//! | [`table`] | every row of the targets, measured |
//! | [`curves`], [`chart`] | latency over load and swaps over models, drawn |
//! | [`shares`] | two owners on one fleet, one of whom floods it |
//! | [`scaling`] | the cost of a decision |
//! | [`split_fleet`] | a fleet split into several apps by model |

pub mod args;
pub mod chart;
pub mod curves;
pub mod faulty_runner;
pub mod growth;
pub mod http;
mod interruptible;
pub mod peers;
pub mod pooled_bound;
pub mod replay;
pub mod routes;
pub mod scaling;
pub mod schemes;
pub mod shares;
pub mod simulator;
pub mod split_fleet;
pub mod sweep;
pub mod table;
pub mod targets;
pub mod trace;
pub mod workload;
