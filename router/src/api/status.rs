//! Where a job stands, in fal's words: the same for those who poll and those who follow.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use warmq_common::ids::{AppId, JobId};
use warmq_common::job::JobRecord;
use warmq_common::state::JobState;
use warmq_common::store::{Glance, LogLine};

use super::Api;

const IN_QUEUE: &str = "IN_QUEUE";

/// fal's name of a state.
pub(super) fn word(state: JobState) -> &'static str {
    match state {
        JobState::Queued | JobState::Dispatched => IN_QUEUE,
        JobState::Running => "IN_PROGRESS",
        JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Expired => {
            "COMPLETED"
        }
    }
}

/// A job that waits behind so many others.
pub(super) fn waiting(api: &Api, app: &AppId, id: JobId, queue_position: u64) -> Value {
    let mut answer = about(api, app, id, IN_QUEUE);
    answer["queue_position"] = queue_position.into();
    answer
}

/// A job at a glance. `end`: its record, if it has ended. `with_log`: the glance's lines are shown.
pub(super) fn status(
    api: &Api,
    (app, id): (&AppId, JobId),
    glance: &Glance,
    end: Option<&JobRecord>,
    with_log: bool,
) -> Value {
    let mut answer = match word(glance.state) {
        IN_QUEUE => waiting(api, app, id, glance.queue_position.unwrap_or(0)),
        word => about(api, app, id, word),
    };
    if let Some(progress) = &glance.progress {
        answer["progress"] = json!(progress);
    }
    if let Some(error) = end.and_then(JobRecord::failure) {
        answer["error"] = error.message.into();
        answer["error_type"] = error.error_type.into();
    }
    if let Some(timings) = end.and_then(|record| record.timings) {
        answer["metrics"]["inference_time"] = (timings.run_ms as f64 / 1000.0).into();
    }
    if with_log {
        answer["logs"] = glance.log.iter().map(entry).collect();
    }
    answer
}

/// What every answer about a job says. No query in these URLs: the clients append their own.
fn about(api: &Api, app: &AppId, id: JobId, status: &str) -> Value {
    let url = format!("{}/queue/{app}/requests/{id}", api.public_url);
    json!({
        "status": status,
        "request_id": id,
        "response_url": url,
        "status_url": format!("{url}/status"),
        "cancel_url": format!("{url}/cancel"),
        "logs": null,
        "metrics": {},
    })
}

/// A line of a log. `USER` is the only source that fal's clients know.
fn entry(line: &LogLine) -> Value {
    let at = i64::try_from(line.at_ms).ok();
    let at = at.and_then(DateTime::from_timestamp_millis);
    let labels = match &line.runner {
        Some(runner) => json!({"runner": runner}),
        None => json!({}),
    };
    json!({
        "message": line.message,
        "timestamp": at.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true),
        "level": line.level,
        "source": "USER",
        "labels": labels,
    })
}
