//! Routers and workers as child processes of this one: for tests, the demo, and whatever wants a real cluster on
//! one machine.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use warmq_testkit::{Testbed, WorkerOptions};
//! let cluster = Testbed::builder().start().await?;
//! let router = cluster.router(&[]).await?;
//! let worker = cluster.worker(WorkerOptions::timed("gpu-a", "bench/timed")).await?;
//! println!("{} serves {}", router.url(), worker.runner());
//! drop((worker, router));
//! cluster.cleanup().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`testbed`](Testbed) | a namespace, its folder, and what starts processes in it |
//! | `binaries` | where `warmq-router` and `warmq-worker` are |
//! | [`process`](Process) | one child: signals, log, end |
//! | [`router`](Router), [`worker`](Worker) | the two kinds of child, and when each is ready |
//! | [`proxy`](Proxy) | a TCP proxy that can be shut: a server that goes away and comes back |
//! | [`servers`](PrivateRabbit) | a RabbitMQ and a [Redis](PrivateRedis) of one's own, which may be killed |
//! | [`certificates`](Certificates) | an authority and a certificate of one's own, for servers that speak TLS |
//! | [`cleanup`](Testbed::cleanup) | deletes everything that the namespace left on the servers |
//! | [`mod@eventually`] | bounded waiting for a condition that can be observed |

mod binaries;
mod certificates;
mod cleanup;
mod error;
pub mod eventually;
mod fixtures;
mod folder;
mod process;
mod proxy;
mod router;
mod servers;
mod testbed;
mod worker;

pub use certificates::Certificates;
pub use error::Error;
pub use eventually::eventually;
pub use fixtures::{decision, registration};
pub use process::Process;
pub use proxy::Proxy;
pub use router::Router;
pub use servers::{PrivateRabbit, PrivateRedis, free_port};
pub use testbed::{Builder, Testbed};
pub use worker::{Worker, WorkerOptions};
