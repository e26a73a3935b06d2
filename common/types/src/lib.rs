//! What all parts of warmq share: names, records, states and messages. Data only: nothing here reads a clock or does I/O.
//!
//! | module | contents |
//! | --- | --- |
//! | [`ids`] | newtypes: job, app, runner, epoch, fence, namespace |
//! | [`hint`], [`hint_path`] | what a job needs and a runner has; the field of an input that says so |
//! | [`input_schema`] | what both sides read from the schema of an app's input |
//! | [`state`] | the job's state machine, a pure function |
//! | [`job`] | the job's record: spec, decision, progress, outcome |
//! | [`attempt`] | an attempt's lease and outcome |
//! | [`runner`], [`fault`] | a live runner; its faults, as opposed to the job's |
//! | [`route`], [`flow`] | how a submission came to its app; a route's steps |
//! | [`message`] | messages between router and workers, versioned |
//! | [`access`] | API keys: scopes, limits, secrets |
//! | [`queue_type`], [`retry_tier`], [`server_url`] | settings that several crates share |
//! | [`text`] | foreign text, made fit for logs and terminals |

pub mod access;
pub mod attempt;
pub mod fault;
pub mod flow;
pub mod hint;
pub mod hint_path;
pub mod ids;
pub mod input_schema;
pub mod job;
pub mod message;
pub mod queue_type;
pub mod retry_tier;
pub mod route;
pub mod runner;
pub mod server_url;
pub mod state;
pub mod text;
