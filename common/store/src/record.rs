//! Parses a job's hash into a record.

use std::collections::HashMap;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warmq_types::ids::{AppId, Fence, JobId};
use warmq_types::job::{JobRecord, JobSpec, MAX_ATTEMPTS, Priority};
use warmq_types::unknown::UnknownFields;

/// Serializes a value that cannot fail (string keys, no I/O).
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Fields of a record without input and output.
pub(super) const HEAD: [&str; 33] = [
    "state",
    "path",
    "owner",
    "hint",
    "hint_source",
    "priority",
    "max_warm_wait_ms",
    "start_timeout_ms",
    "run_timeout_ms",
    "max_attempts",
    "stored_input",
    "created_ms",
    "reply_to",
    "webhook",
    "retention_s",
    "no_store",
    "links_s",
    "route",
    "step_of",
    "trace",
    "attempt",
    "fence",
    "dispatched_ms",
    "started_ms",
    "finished_ms",
    "runner",
    "lost_runners",
    "hold",
    "decision",
    "flow",
    "progress",
    "timings",
    "error",
];

/// Field of a job's output.
pub(super) const OUTPUT: &str = "output";

pub(super) fn record(
    app: &AppId,
    id: JobId,
    fields: &HashMap<String, String>,
) -> Result<JobRecord, String> {
    let text = |name: &str| fields.get(name).map(String::as_str);
    let state = text("state").ok_or("it has no state")?;
    let spec = JobSpec {
        id,
        app: app.clone(),
        path: text("path").unwrap_or_default().to_owned(),
        owner: parsed(fields, "owner")?,
        hint: parsed(fields, "hint")?,
        hint_source: known(fields, "hint_source")?,
        priority: text("priority")
            .and_then(Priority::parse)
            .unwrap_or_default(),
        max_warm_wait_ms: parsed(fields, "max_warm_wait_ms")?,
        start_timeout_ms: parsed(fields, "start_timeout_ms")?,
        run_timeout_ms: parsed(fields, "run_timeout_ms")?,
        max_attempts: parsed(fields, "max_attempts")?.unwrap_or(MAX_ATTEMPTS),
        input: from_json(fields, "input")?.unwrap_or_default(),
        stored_input: from_json(fields, "stored_input")?,
        created_ms: parsed(fields, "created_ms")?.ok_or("it has no created_ms")?,
        reply_to: from_json(fields, "reply_to")?,
        webhook: parsed(fields, "webhook")?,
        retention_s: parsed(fields, "retention_s")?,
        no_store: text("no_store").is_some(),
        links_s: parsed(fields, "links_s")?,
        route: from_json(fields, "route")?.unwrap_or_default(),
        step_of: from_json(fields, "step_of")?,
        trace: parsed(fields, "trace")?,
        unknown: UnknownFields::new(),
    };
    Ok(JobRecord {
        spec,
        state: state.parse().map_err(|error| format!("{error}"))?,
        attempt: parsed(fields, "attempt")?.unwrap_or(0),
        fence: Fence(parsed(fields, "fence")?.unwrap_or(0)),
        dispatched_ms: parsed(fields, "dispatched_ms")?,
        started_ms: parsed(fields, "started_ms")?,
        finished_ms: parsed(fields, "finished_ms")?,
        runner: parsed(fields, "runner")?,
        lost_runners: from_json(fields, "lost_runners")?.unwrap_or_default(),
        hold: from_json(fields, "hold")?,
        decision: known(fields, "decision")?,
        flow: from_json(fields, "flow")?,
        progress: known(fields, "progress")?,
        timings: from_json(fields, "timings")?,
        output: from_json(fields, "output")?,
        error: from_json(fields, "error")?,
    })
}

pub(super) fn parsed<T>(fields: &HashMap<String, String>, name: &str) -> Result<Option<T>, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    fields
        .get(name)
        .map(|text| text.parse().map_err(|error| format!("{name}: {error}")))
        .transpose()
}

pub(super) fn from_json<T: DeserializeOwned>(
    fields: &HashMap<String, String>,
    name: &str,
) -> Result<Option<T>, String> {
    fields
        .get(name)
        .map(|text| serde_json::from_str(text).map_err(|error| format!("{name}: {error}")))
        .transpose()
}

/// Parses JSON that describes a job and decides nothing; `None` for a value of a newer build that
/// this one does not know.
fn known<T: DeserializeOwned>(
    fields: &HashMap<String, String>,
    name: &str,
) -> Result<Option<T>, String> {
    Ok(from_json(fields, name)?.and_then(if_known))
}

/// Returns a value, unless a newer build wrote it and this one does not know it.
pub(super) fn if_known<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// This file without its tests.
    const SOURCE: &str = include_str!("record.rs");

    #[test]
    fn a_head_is_a_record_without_input_and_output() {
        let (_, reads) = SOURCE.split_once("pub(super) fn record(").unwrap();
        let (reads, _) = reads.split_once("\n}").unwrap();
        let quoted = reads.split('"').skip(1).step_by(2);
        let is_name = |text: &&str| {
            text.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        };
        let names: std::collections::BTreeSet<&str> = quoted.filter(is_name).collect();
        let large = ["input", OUTPUT];
        let expected = HEAD.into_iter().chain(large).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_record_of_a_newer_build_is_read_without_what_is_unknown() {
        let fields = |decision: &str| {
            let fields = [
                ("state", "running"),
                ("created_ms", "5"),
                ("of_a_newer_build", "?"),
                ("priority", "urgent"),
                ("hint_source", r#"{"kind": "of a newer build"}"#),
                (
                    "progress",
                    r#"{"phase": "dreaming", "step": 1, "steps": 2}"#,
                ),
                ("decision", decision),
            ];
            let owned = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            HashMap::from(owned)
        };
        let (app, id) = (AppId::parse("a/b").unwrap(), JobId::generate());
        let decision = json!({
            "policy": "warm", "target": {"kind": "cloud"}, "warm": false, "warm_candidates": [],
            "blank_candidates": [], "idle_runners": 0, "refused_claims": 0, "reason": "new"
        });
        let read = record(&app, id, &fields(&decision.to_string())).unwrap();
        assert_eq!(read.spec.priority, Priority::Normal);
        assert_eq!((read.spec.hint_source, read.decision), (None, None));
        assert_eq!(read.progress, None);
        // Damage is an error all the same.
        assert!(record(&app, id, &fields("{")).is_err());
    }
}
