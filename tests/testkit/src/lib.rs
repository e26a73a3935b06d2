//! Starts routers, workers, servers and proxies as child processes, for tests, benchmarks and demo.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use warmq_testkit::{Testbed, WorkerOptions};
//! let testbed = Testbed::builder().start().await?;
//! let router = testbed.router(&[]).await?;
//! let worker = testbed.worker(WorkerOptions::timed("gpu-a", "bench/timed")).await?;
//! println!("{} serves {}", router.url(), worker.runner());
//! drop((worker, router));
//! testbed.cleanup().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | [`testbed`](Testbed) | a namespace, a folder, and the processes in them |
//! | `binaries` | paths of `warmq-router` and `warmq-worker` |
//! | [`process`](Process) | one child: signals, log, end |
//! | [`router`](Router), [`worker`](Worker) | the two kinds of child, and their readiness |
//! | [`deployment`](Deployment) | a router and workers that start and stop together |
//! | [`proxy`](Proxy) | a TCP proxy that can be shut, as an outage of a server |
//! | [`servers`](PrivateRabbit) | a private RabbitMQ and a private [Redis](PrivateRedis) |
//! | [`certificates`](Certificates) | a private authority and a certificate, for TLS |
//! | [`chromedriver`](Chromedriver) | headless browsers, for tests of web pages |
//! | [`fixtures`](registration) | records that tests write themselves |
//! | [`cleanup`](Testbed::cleanup) | deletes everything in the namespace |
//! | [`mod@eventually`] | bounded waiting for a condition |

mod binaries;
mod certificates;
mod chromedriver;
mod cleanup;
mod deployment;
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
pub use chromedriver::Chromedriver;
pub use deployment::Deployment;
pub use error::Error;
pub use eventually::eventually;
pub use fixtures::{decision, registration};
pub use process::Process;
pub use proxy::Proxy;
pub use router::Router;
pub use servers::{PrivateRabbit, PrivateRedis, free_port};
pub use testbed::{Builder, Testbed};
pub use worker::{Worker, WorkerOptions};
