//! Variables of the expressions of routes.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_types::ids::AppId;

/// A request to resolve a target, or to compute a step's input.
#[derive(Debug, Clone, Copy)]
pub struct RouteRequest<'a> {
    /// `input`: the submission's input; in a flow, the flow's.
    pub input: &'a Value,
    /// `headers`: those of the request or message, by lower-case name.
    pub headers: &'a BTreeMap<String, String>,
    /// `key`: the id of its API key, or empty.
    pub key: &'a str,
    /// `apps`: the load of those that conditions may read ([`crate::apps_in_conditions`]).
    pub apps: &'a BTreeMap<AppId, AppLoadEstimate>,
    /// `steps`: the outputs of the flow's earlier steps, by name; empty at submission.
    pub steps: &'a BTreeMap<String, Value>,
    /// Key of splits.
    pub draw: Draw<'a>,
}

/// Key by which splits choose a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw<'a> {
    /// Their `by`; without it, this job id, so that a repeated submission has the same target.
    Job(&'a str),
    /// This text, regardless of their `by`: to count the keys of each target.
    Everywhere(&'a str),
}

/// Current load of an app.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppLoadEstimate {
    /// Cost of a job, in the file's unit.
    pub cost: f64,
    /// Estimated wait of a new job for a runner, s; infinite without runners.
    pub wait_s: f64,
    /// Measured run time of a job, s.
    pub run_s: f64,
    /// Number of live runners.
    pub runners: u64,
    /// Number of idle runners.
    pub idle: u64,
    /// Number of waiting jobs.
    pub queued: u64,
}
