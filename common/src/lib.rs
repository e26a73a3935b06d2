//! The contract that router, worker and tools share: names, records, messages, and the two servers they live on.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`ids`] | newtypes: job, app, runner, epoch, fence, namespace |
//! | [`hint`] | what a job needs and a runner has |
//! | [`input_schema`] | what both sides read from the schema of an app's input |
//! | [`state`] | the job's state machine, a pure function |
//! | [`route`] | how a submission came to the app that runs it |
//! | [`fault`] | a runner's fault, as opposed to the job's |
//! | [`flow`] | a route's steps, each a job of its own |
//! | [`job`] | the job's record: spec, decision, progress, outcome |
//! | [`message`] | what travels through RabbitMQ, versioned |
//! | [`amqp`] | connection, topology, confirmed publishes |
//! | [`store`] | Redis: keys, atomic scripts, jobs, fleet |
//! | [`access`] | keys: what their holders may do, and how much |
//! | [`artifacts`] | where pictures go: object storage |
//! | [`clock`] | this machine's clock |
//! | [`config`] | flags, environment and `warmq.toml`; every mistake reported at once |
//! | [`plain`] | text that others wrote, fit for logs and terminals |
//! | [`retry`] | delays between attempts, on `backoff` |
//! | [`telemetry`], [`shutdown`] | logs and signals |
//! | [`tls`] | encrypted connections to the servers |

pub mod access;
pub mod amqp;
pub mod artifacts;
pub mod clock;
pub mod config;
pub mod fault;
pub mod flow;
pub mod hint;
pub mod ids;
pub mod input_schema;
pub mod job;
pub mod message;
pub mod plain;
pub mod retry;
pub mod route;
pub mod shutdown;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod tls;
