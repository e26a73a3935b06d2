//! Placement policies: pure functions over plain data. No clock, no I/O, no global randomness, so
//! the dispatcher and the simulator in `dev/bench/` run the same code.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`fal`] | fal's documented rule: decides each job on arrival, without state |
//! | [`scaling`] | how many runners an app needs, and which ones to end first |
//! | [`warm`] | holds jobs for warm runners: a state machine over events |
//! | [`work`] | how long waiting jobs will occupy runners |

pub mod fal;
pub mod scaling;
pub mod warm;
pub mod work;
