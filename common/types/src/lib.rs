//! Types that all parts of warmq share: ids, records, states and messages. Data only: nothing here
//! reads a clock or does I/O.
//!
//! | module | contents |
//! | --- | --- |
//! | [`ids`] | newtypes: job, app, runner, epoch, fence, namespace |
//! | [`hint`], [`hint_path`] | hints, and the input field that contains one |
//! | [`input_schema`], [`field_name`] | readers of an app's input schema; wrong names of fields |
//! | [`input_cost`] | the limit of a job's cost in that schema |
//! | [`state`] | the job's state machine, a pure function |
//! | [`job`] | the job's record: spec, decision, progress, outcome |
//! | [`attempt`] | an attempt's lease and outcome |
//! | [`runner`], [`fault`] | a live runner; its faults, as opposed to the job's |
//! | [`tier`] | where a runner has a model |
//! | [`scaling`] | how an app is scaled |
//! | [`traceparent`] | position in a distributed trace |
//! | [`route`], [`flow`] | the way from a submission to its app; the steps of a route |
//! | [`message`] | messages between router and workers, versioned |
//! | [`protocol`], [`unknown`] | versions that work together; what a newer build writes |
//! | [`access`] | API keys: scopes, limits, secrets |
//! | [`http`] | bodies of the HTTP API, for router and clients |
//! | [`owner_lane`] | the jobs of one owner in one lane |
//! | [`policy_name`], [`queue_type`], [`retry_tier`], [`server_url`] | settings that crates share |
//! | [`text`], [`table`] | foreign text, made fit for logs and terminals; tables of it |

pub mod access;
pub mod attempt;
pub mod fault;
pub mod field_name;
pub mod flow;
pub mod hint;
pub mod hint_path;
pub mod http;
pub mod ids;
pub mod input_cost;
pub mod input_schema;
pub mod job;
pub mod message;
pub mod owner_lane;
pub mod policy_name;
pub mod protocol;
pub mod queue_type;
pub mod retry_tier;
pub mod route;
pub mod runner;
pub mod scaling;
pub mod server_url;
pub mod state;
pub mod table;
pub mod text;
pub mod tier;
pub mod traceparent;
pub mod unknown;
pub mod usage;

#[cfg(test)]
mod newer_builds;
