//! What a submission shows to the expressions of routes.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_types::ids::AppId;

/// A submission on its way.
#[derive(Debug, Clone, Copy)]
pub struct RouteRequest<'a> {
    /// `input`: what the app will be given; in a flow, what the flow was given.
    pub input: &'a Value,
    /// `headers`: the request's, or the message's, by their names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// `key`: the name of the API key that it came with; empty if it came without.
    pub key: &'a str,
    /// `apps`: how those stand that conditions on its way may look at
    /// ([`crate::apps_in_conditions`]).
    pub apps: &'a BTreeMap<AppId, AppLoadEstimate>,
    /// `steps`: the outputs of the flow's earlier steps, by the steps' names. None at submission.
    pub steps: &'a BTreeMap<String, Value>,
    /// What splits draw by.
    pub draw: Draw<'a>,
}

/// What splits draw by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw<'a> {
    /// By what their `by` says; where it says nothing, by this job id: a submission that is tried
    /// again draws the same.
    Job(&'a str),
    /// All by this text, whatever their `by` says: to see how many keys would go where.
    Everywhere(&'a str),
}

/// How an app stands just now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppLoadEstimate {
    /// What a job costs there, in the file's own unit.
    pub cost: f64,
    /// How long a job that is submitted now waits for a runner, by measurement, seconds. Infinite
    /// without runners.
    pub wait_s: f64,
    /// How long a job runs there, by measurement, seconds.
    pub run_s: f64,
    /// Its live runners.
    pub runners: u64,
    /// Those of them that have nothing to do.
    pub idle: u64,
    /// Jobs that wait.
    pub queued: u64,
}
