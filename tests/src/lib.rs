//! The integration tests' library: a system under test, and clients of it.
//!
//! | module | contents |
//! | --- | --- |
//! | [`system`] | a router, workers, submissions by HTTP, waiting for jobs |
//! | [`amqp`] | a client that speaks AMQP only |
//! | [`fuzz`] | the API against `/openapi.json` |
//! | [`chaos`] | faults at random, and an account of every job |
//! | [`files`] | uploads and signed URLs |
//! | [`program`] | programs that run to their end |
//! | [`metrics`] | a strict parser of `/metrics` |

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
