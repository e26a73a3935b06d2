//! Chaos: servers, routers and workers are killed, frozen, restarted and cut off by a seeded plan while users submit jobs.
//! At the end every accepted job must have one end and one result.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`plan`], [`workload`] | what goes wrong, and which jobs are wanted: all drawn from the seed, before anything runs |
//! | [`run`](mod@run) | one run from its beginning to its end |
//! | [`environment`], [`target`] | the private servers, routers and workers, and one of them as a victim |
//! | [`faults`], [`fault_log`] | the plan carried out; when what happened |
//! | [`submitters`], `stall_timeout` | submitters by HTTP and AMQP, and how they try again |
//! | [`observer`] | every end that is told: events, replies, answers |
//! | [`ledger`], [`accountant`] | what is known of each job; what that means (pure) |
//! | [`recovery`] | how soon after a fault a job ends |
//! | [`progress`], [`report`] | for people |

pub mod accountant;
pub mod environment;
pub mod fault_log;
pub mod faults;
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
