//! What a submission shows to the expressions of routes.

use std::collections::BTreeMap;

use serde_json::Value;

/// A submission on its way.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `input`: what the app will be given.
    pub input: &'a Value,
    /// `headers`: the request's, or the message's, by their names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// `key`: the name of the API key that it came with; empty if it came without.
    pub key: &'a str,
    /// What splits draw by.
    pub draw: Draw<'a>,
}

/// What splits draw by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw<'a> {
    /// By what their `by` says; where it says nothing, by this job id: a submission that is tried again draws the same.
    Job(&'a str),
    /// All by this text, whatever their `by` says: to see how many keys would go where.
    Everywhere(&'a str),
}
