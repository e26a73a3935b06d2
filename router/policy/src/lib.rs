//! The routing decision: pure functions over plain data. No clock, no I/O, no global randomness, so that the
//! dispatcher and the simulator in `dev/bench/` run the same code.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`fal`] | fal's documented rule: decides for one job at once, and remembers nothing |
//! | [`warm`] | holds jobs for warm runners: a state machine over events |

pub mod fal;
pub mod warm;
