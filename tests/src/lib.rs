//! The harness: a cluster of real processes in a namespace of its own, and what a test says to it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`system`] | a router, workers, submitting by HTTP, waiting for jobs |
//! | [`amqp`] | a submitter that speaks AMQP only |
//! | [`fuzz`] | the API against `/openapi.json` |
//! | [`chaos`] | everything is killed, frozen and cut off at random, and every job is accounted for |
//! | [`files`] | uploads, links and permits |
//! | [`program`] | programs of ours that are started for what they say |
//! | [`metrics`] | a strict reader of `/metrics` |

pub mod amqp;
pub mod chaos;
pub mod files;
pub mod fuzz;
pub mod metrics;
pub mod program;
pub mod system;

pub use amqp::AmqpClient;
pub use program::Program;
pub use system::{HttpResponse, System};
