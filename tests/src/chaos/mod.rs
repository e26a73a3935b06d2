//! Chaos: servers, routers and workers are killed, frozen, restarted and disconnected by a seeded
//! plan while clients submit jobs. At the end every accepted job must have one end and one result.
//!
//! | module | contents |
//! | --- | --- |
//! | [`plan`], [`workload`] | faults and submissions, drawn from the seed |
//! | [`run`](mod@run) | one run |
//! | [`environment`], [`target`] | private servers, routers and workers; a target of faults |
//! | [`injector`], [`fault_log`] | execution of the plan, and its log |
//! | [`submitters`], `retry` | clients by HTTP and AMQP, and their retries |
//! | [`observer`] | reported ends: events, replies, records |
//! | [`ledger`], [`accountant`] | facts about each job; the verdict (pure) |
//! | [`recovery`] | times from a fault to the next ended job |
//! | [`progress`], [`report`] | output on the terminal |

pub mod accountant;
pub mod environment;
pub mod fault_log;
pub mod injector;
pub mod ledger;
pub mod observer;
pub mod plan;
pub mod progress;
pub mod recovery;
pub mod report;
mod retry;
pub mod run;
pub mod submitters;
pub mod target;
pub mod workload;

pub use plan::Scale;
pub use progress::Progress;
pub use run::{Outcome, run};
