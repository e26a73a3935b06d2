//! The harness: a cluster of real processes in a namespace of its own, and what a test says to it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`stage`] | a router, workers, submitting by HTTP, waiting for jobs |
//! | [`amqp`] | a submitter that speaks AMQP only |
//! | [`chaos`] | everything is killed, frozen and cut off at random, and every job is accounted for |
//! | [`files`] | uploads, links and permits |
//! | [`metrics`] | a strict reader of `/metrics` |

pub mod amqp;
pub mod chaos;
pub mod files;
pub mod metrics;
pub mod stage;

pub use amqp::AmqpUser;
pub use stage::{Answer, Stage};
