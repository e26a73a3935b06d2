//! Where a job stands, in fal's words: the same for those who poll and those who follow.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use utoipa::ToSchema;
use warmq_store::LogLine;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{JobRecord, Progress};

use super::Api;
use super::job_status::{JobStatus, StatusName, StepView};

/// Where a job stands, and where more is to be asked.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Status)]
pub(super) struct StatusView {
    cancel_url: String,
    /// Why the job came to nothing; of jobs that ended without a result only.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// A stable name for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    /// Null unless asked for.
    #[schema(required)]
    logs: Option<Vec<LogEntry>>,
    metrics: Metrics,
    /// How far the job is, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// Jobs in front of it, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u64>,
    request_id: JobId,
    /// Where the result is.
    response_url: String,
    status: StatusName,
    status_url: String,
    /// The step of a flow that is under way; if that is a flow itself, its step follows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepView>,
}

/// What a job cost.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct Metrics {
    /// How long it ran, s, without loading; once it has ended.
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
    /// The only source that fal's clients know.
    #[schema(example = "USER")]
    source: &'static str,
    #[schema(example = "2026-01-31T12:00:00.000Z", format = DateTime)]
    timestamp: String,
}

/// What a line of a log is about.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Labels {
    /// The runner that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    runner: Option<RunnerId>,
}

/// A job that waits behind so many others.
pub(super) fn waiting(api: &Api, app: &AppId, id: JobId, queue_position: u64) -> StatusView {
    StatusView {
        queue_position: Some(queue_position),
        ..about(api, app, id, StatusName::InQueue)
    }
}

/// How a job stands. `end`: its record, if it has ended. `with_log`: the lines are shown.
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

/// What every answer about a job says. No query in these URLs: the clients append their own.
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
