//! Status of a job in fal's format, the same for polling and streaming.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use utoipa::ToSchema;
use warmq_store::LogLine;
use warmq_types::http::{StatusName, StepStatus};
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{JobRecord, Progress};

use super::Api;
use super::job_status::JobStatus;

/// Status of a job, with the URLs of its other calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Status)]
pub(super) struct StatusView {
    cancel_url: String,
    /// Error of a job that ended without a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Type of the error, a stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    /// Log lines, null unless requested.
    #[schema(required)]
    logs: Option<Vec<LogEntry>>,
    metrics: Metrics,
    /// Progress, while the job runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// Number of jobs in front of it, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u64>,
    request_id: JobId,
    /// URL of the result.
    response_url: String,
    status: StatusName,
    status_url: String,
    /// The step of a flow that is under way; if that is a flow itself, its step follows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepStatus>,
}

/// Cost of a job.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct Metrics {
    /// Run time without loading, s; once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_time: Option<f64>,
}

/// A line of a job's log.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct LogEntry {
    labels: Labels,
    /// `INFO`, `WARN` or `ERROR`.
    level: String,
    message: String,
    /// The only source known to fal's clients.
    #[schema(example = "USER")]
    source: &'static str,
    #[schema(example = "2026-01-31T12:00:00.000Z", format = DateTime)]
    timestamp: String,
}

/// Labels of a log line.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Labels {
    /// The line's runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    runner: Option<RunnerId>,
}

/// Returns the status of a waiting job.
pub(super) fn waiting(api: &Api, app: &AppId, id: JobId, queue_position: u64) -> StatusView {
    StatusView {
        queue_position: Some(queue_position),
        ..about(api, app, id, StatusName::InQueue)
    }
}

/// Returns the status of a job. `end`: its record, if it has ended. `with_log`: includes the log.
pub(super) fn status_view(
    api: &Api,
    (app, id): (&AppId, JobId),
    status: &JobStatus,
    end: Option<&JobRecord>,
    with_log: bool,
) -> StatusView {
    let word = match StatusName::from(status.state) {
        StatusName::InQueue => waiting(api, app, id, status.queue_position.unwrap_or(0)),
        word => about(api, app, id, word),
    };
    let failure = end.and_then(JobRecord::failure);
    let (error, error_type) = failure
        .map(|error| (error.message, error.error_type))
        .unzip();
    let timings = end.and_then(|record| record.timings);
    StatusView {
        error,
        error_type,
        logs: with_log.then(|| status.log.iter().map(LogEntry::from).collect()),
        metrics: Metrics {
            inference_time: timings.map(|timings| timings.run_ms as f64 / 1000.0),
        },
        progress: status.progress.clone(),
        steps: status.steps.clone(),
        ..word
    }
}

/// Returns the fields of every status. The URLs have no query, since clients append their own.
fn about(api: &Api, app: &AppId, id: JobId, status: StatusName) -> StatusView {
    let url = format!("{}/queue/{app}/requests/{id}", api.public_url);
    StatusView {
        cancel_url: format!("{url}/cancel"),
        error: None,
        error_type: None,
        logs: None,
        metrics: Metrics::default(),
        progress: None,
        queue_position: None,
        request_id: id,
        status_url: format!("{url}/status"),
        response_url: url,
        status,
        steps: Vec::new(),
    }
}

impl From<&LogLine> for LogEntry {
    fn from(line: &LogLine) -> Self {
        let at = i64::try_from(line.at_ms).ok();
        let at = at.and_then(DateTime::from_timestamp_millis);
        Self {
            labels: Labels {
                runner: line.runner.clone(),
            },
            level: line.level.clone(),
            message: line.message.clone(),
            source: "USER",
            timestamp: at
                .unwrap_or_default()
                .to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}
