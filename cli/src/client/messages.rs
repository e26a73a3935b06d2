//! Requests and responses.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use warmq_types::hint::Hint;
use warmq_types::http::StatusName;
use warmq_types::ids::{AppId, JobId, KeyId, RunnerId};
use warmq_types::job::Priority;
use warmq_types::state::JobState;

/// A job to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The app.
    pub app: AppId,
    /// The path after `owner/name/`; empty for the app's root.
    pub path: String,
    /// The hint.
    pub hint: Option<Hint>,
    /// The lane.
    pub priority: Priority,
    /// The input.
    pub input: Value,
}

impl Submission {
    /// Creates a submission of normal priority, without a hint.
    pub fn new(app: AppId, input: Value) -> Self {
        Self {
            app,
            path: String::new(),
            hint: None,
            priority: Priority::Normal,
            input,
        }
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Sets the lane.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// Which jobs to list; all by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// In one of these states; in any, if empty.
    pub states: Vec<JobState>,
    /// Of this app, or flows of this route.
    pub app: Option<AppId>,
    /// With this hint.
    pub hint: Option<Hint>,
    /// Submitted with this key.
    pub owner: Option<KeyId>,
    /// Before this job, or this time (Unix ms).
    pub before: Option<String>,
    /// Maximum number of jobs of the page; the router's default, if absent.
    pub limit: Option<usize>,
}

impl JobQuery {
    /// Returns the query of the request.
    pub(super) fn encode(&self) -> String {
        let states: Vec<&str> = self.states.iter().map(|state| state.as_str()).collect();
        let states = Some(states.join(",")).filter(|states| !states.is_empty());
        encoded([
            ("state", states),
            ("app", self.app.as_ref().map(AppId::to_string)),
            ("hint", self.hint.as_ref().map(Hint::to_string)),
            ("key", self.owner.as_ref().map(KeyId::to_string)),
            ("before", self.before.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ])
    }
}

/// The usage that a report should have; all filters apply.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// From this day on, UTC.
    pub from: Option<String>,
    /// To this day, UTC.
    pub to: Option<String>,
    /// Of jobs of this app, or flows of this route.
    pub app: Option<AppId>,
    /// Of jobs submitted with this key.
    pub owner: Option<KeyId>,
    /// What a line is about: of `day`, `key`, `app`, comma-separated.
    pub by: String,
}

impl UsageQuery {
    /// Returns the query of the request.
    pub(super) fn encode(&self) -> String {
        encoded([
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("app", self.app.as_ref().map(AppId::to_string)),
            ("key", self.owner.as_ref().map(KeyId::to_string)),
            ("by", Some(self.by.clone())),
        ])
    }
}

/// Encodes the parameters that are set.
fn encoded<const N: usize>(parameters: [(&str, Option<String>); N]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    query.finish()
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Time, as RFC 3339 in UTC.
    pub timestamp: String,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// One sentence.
    pub message: String,
    /// What it concerns.
    pub labels: LogLabels,
}

/// What a line of a log concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLabels {
    /// A runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerId>,
}

/// A status of a job, with lines of its log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LoggedStatus {
    /// The status.
    pub status: StatusName,
    /// Lines of the log.
    #[serde(default)]
    pub logs: Vec<LogEntry>,
}

/// The response to a submission, in fal's format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// `IN_QUEUE`.
    pub status: String,
    /// The job's id.
    pub request_id: JobId,
    /// URL of the result.
    pub response_url: String,
    /// URL of the status.
    pub status_url: String,
    /// URL to cancel the job.
    pub cancel_url: String,
    /// Jobs ahead of it.
    pub queue_position: Option<u64>,
}

/// An HTTP status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// 200 when the job succeeded.
    pub status: u16,
    /// The output, or the error.
    pub body: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_contains_the_given_filters_only() {
        assert_eq!(JobQuery::default().encode(), "");
        let query = JobQuery {
            states: vec![JobState::Queued, JobState::Running],
            app: Some("a/b".parse().unwrap()),
            hint: Some("größe & x".parse().unwrap()),
            limit: Some(7),
            ..JobQuery::default()
        };
        let expected = "state=queued%2Crunning&app=a%2Fb&hint=gr%C3%B6%C3%9Fe+%26+x&limit=7";
        assert_eq!(query.encode(), expected);
    }
}
