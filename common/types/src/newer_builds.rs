//! Tests of all types that leave a process: what a newer build writes is read, and carried where it
//! is written again.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::access::{ApiKey, KeyChange, Limits, NewKey, Scope, Session, StoredKey};
use crate::flow::{Flow, StepOf};
use crate::job::{Decision, Hold, JobError, JobRecord, JobSpec, Priority, Progress, Timings};
use crate::message::{DeferredResult, JobEvent, JobMessage};
use crate::route::{Hop, RouteKind};
use crate::runner::{ModelChange, RunnerRecord};
use crate::scaling::ScalingState;
use crate::usage::UsageReport;

/// The name of a field of a newer build.
const NEW: &str = "of_a_newer_build";

/// Fields whose value is the app's, not warmq's.
const FREE: [&str; 3] = ["input", "output", "succeeded"];

/// Adds an unknown field to each object of warmq's, except an outcome, whose one field is its kind.
fn extended(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields = extended_fields(fields);
            fields.insert(NEW.to_owned(), json!({"a": [1]}));
            Value::Object(fields)
        }
        Value::Array(items) => items.iter().map(extended).collect(),
        other => other.clone(),
    }
}

fn extended_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    let fields = fields.iter().map(|(name, value)| {
        let value = match (name.as_str(), value) {
            (name, value) if FREE.contains(&name) => value.clone(),
            ("outcome", Value::Object(kind)) => extended_fields(kind).into(),
            (_, value) => extended(value),
        };
        (name.clone(), value)
    });
    fields.collect()
}

/// Checks that a type reads the sample, also with what a newer build adds; returns what it writes
/// of the latter.
fn reread<T: DeserializeOwned + Serialize>(sample: &Value) -> Value {
    let name = std::any::type_name::<T>();
    let read = |value: &Value| -> Value {
        let read = serde_json::from_str::<T>(&value.to_string());
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}: {value}"));
        serde_json::to_value(read).unwrap()
    };
    assert_eq!(read(sample), *sample, "the sample of {name} is complete");
    read(&extended(sample))
}

fn spec() -> Value {
    json!({
        "id": "019300a0-0000-7000-8000-000000000001", "app": "a/b", "path": "edit", "owner": "alice-1",
        "hint": "m", "hint_source": {"kind": "input", "field": "input.model", "overruled": "n"},
        "priority": "low", "max_warm_wait_ms": 1, "start_timeout_ms": 2, "run_timeout_ms": 3,
        "max_attempts": 4, "input": {"n": 1},
        "stored_input": {"key": "k", "bytes": 1, "sha256": "0"}, "created_ms": 5,
        "reply_to": {"queue": "q", "correlation_id": "c"}, "webhook": "https://a.b/c",
        "retention_s": 6, "no_store": true, "links_s": 7,
        "route": [{"route": "a/r", "kind": "split", "to": "a/b", "reason": "by weight"}],
        "step_of": step_of()
    })
}

fn step_of() -> Value {
    json!({"route": "a/r", "flow": "019300a0-0000-7000-8000-000000000002", "index": 1})
}

fn timings() -> Value {
    json!({"warm": false, "load_ms": 1, "from_ram": true, "run_ms": 2})
}

fn error() -> Value {
    json!({
        "status": 422, "error_type": "t", "message": "m",
        "detail": [{"loc": ["body", "n"], "msg": "m", "type": "t"}]
    })
}

fn flow() -> Value {
    json!({"kind": "sequence", "of": 2, "steps": [{
        "index": 0, "name": "s", "to": "a/b", "app": "a/b",
        "route": [{"route": "a/r", "kind": "switch", "to": "a/b", "reason": "it holds"}],
        "job": "019300a0-0000-7000-8000-000000000003", "begun_ms": 1, "until_ms": 2,
        "reason": "r", "given_up": "g",
        "end": {"state": "failed", "at_ms": 3, "timings": timings(), "error": "e"}
    }]})
}

fn decision() -> Value {
    json!({
        "policy": "warm", "target": {"kind": "runner", "runner": "gpu-1"}, "warm": true, "tier": "ram",
        "warm_candidates": ["gpu-1"], "blank_candidates": [], "idle_runners": 1, "holders": 1,
        "predicted_wait_ms": 1, "held_ms": 2, "refused_claims": 0, "reason": "r"
    })
}

fn hold() -> Value {
    json!({
        "since_ms": 1, "until_ms": 2, "bounded": true, "predicted_wait_ms": 3, "holders": 1,
        "idle_runners": 0, "reason": "r"
    })
}

fn message() -> Value {
    json!({
        "v": 1, "job": spec(), "avoid": ["gpu-1"],
        "faults": [{"runner": "gpu-1", "kind": "model", "message": "m"}]
    })
}

fn event() -> Value {
    json!({
        "v": 1, "job_id": "019300a0-0000-7000-8000-000000000001", "app": "a/b", "state": "succeeded",
        "reply_to": {"queue": "q"}, "step_of": step_of(),
        "forget_input": {"key": "k", "bytes": 1, "sha256": "0"}
    })
}

fn record() -> Value {
    let mut record = spec();
    let own = json!({
        "state": "running", "attempt": 1, "fence": 2, "dispatched_ms": 3, "started_ms": 4, "finished_ms": 5,
        "runner": "gpu-1", "lost_runners": ["gpu-2"], "hold": hold(), "decision": decision(),
        "flow": flow(), "progress": {"phase": "running", "step": 1, "steps": 2, "preview": "p"},
        "timings": timings(), "output": {"n": 1}, "error": error()
    });
    let (Value::Object(record_fields), Value::Object(own)) = (&mut record, own) else {
        panic!("both are objects");
    };
    record_fields.extend(own);
    record
}

fn key() -> Value {
    json!({
        "id": "alice-1", "scopes": ["submit:a/*", "read"],
        "limits": {
            "rate": {"per_second": 2.0, "burst": 3}, "max_jobs": 4, "max_running": 5, "weight": 2.5
        },
        "created_ms": 6
    })
}

fn stored_key() -> Value {
    let mut stored = key();
    stored["secret_sha256"] = json!("07".repeat(32));
    stored
}

fn runner() -> Value {
    json!({
        "id": "gpu-1", "app": "a/b", "epoch": 1, "host": "h", "pid": 2, "engine": "timed", "device": "cpu",
        "memory_budget_bytes": 3, "memory_bytes": 4, "hints": ["m"], "slots": 5, "ram_budget_bytes": 6,
        "ram_bytes": 7, "ram_hints": ["n"], "pinned": ["m"], "idle": false,
        "job": "019300a0-0000-7000-8000-000000000001", "draining": true, "since_ms": 8,
        "lease_until_ms": 9, "fault": "f", "fault_since_ms": 10
    })
}

#[test]
fn every_type_reads_what_a_newer_build_adds() {
    let deferred = |outcome: Value| {
        json!({
            "v": 1, "job": spec(), "runner": "gpu-1", "epoch": 1, "since_ms": 2,
            "lease": {"attempt": 1, "fence": 2}, "outcome": outcome, "timings": timings()
        })
    };
    reread::<JobSpec>(&spec());
    reread::<JobMessage>(&message());
    reread::<JobEvent>(&event());
    reread::<DeferredResult>(&deferred(json!({"succeeded": {"n": 1}})));
    reread::<DeferredResult>(&deferred(json!({"failed": error()})));
    reread::<JobRecord>(&record());
    reread::<Flow>(&flow());
    reread::<StepOf>(&step_of());
    reread::<Decision>(&decision());
    reread::<Hold>(&hold());
    reread::<Timings>(&timings());
    reread::<JobError>(&error());
    reread::<Progress>(&json!({"phase": "loading", "step": 0, "steps": 1}));
    reread::<ApiKey>(&key());
    reread::<StoredKey>(&stored_key());
    reread::<Session>(&json!({"key": "alice-1", "secret_sha256": "07".repeat(32)}));
    reread::<RunnerRecord>(&runner());
    reread::<ScalingState>(&json!({"wanted": 1, "hook_error": "e"}));
    let totals = json!({
        "succeeded": 1, "failed": 2, "cancelled": 3, "expired": 4, "pictures": 5, "gpu_ms": 6, "load_ms": 7
    });
    reread::<UsageReport>(&json!({
        "from": "2026-11-01", "to": "2026-11-30", "by": ["day"], "usage": [], "total": totals
    }));
}

/// Returns the places of the unknown field, as JSON pointers.
fn carried(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let nested = |found: &mut Vec<String>, name: &str, value: &Value| {
        found.extend(carried(value).iter().map(|place| format!("/{name}{place}")));
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name == NEW {
                    true => found.push(String::new()),
                    false => nested(&mut found, name, value),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                nested(&mut found, &index.to_string(), item);
            }
        }
        _ => {}
    }
    found.sort();
    found
}

#[test]
fn what_is_written_again_carries_what_a_newer_build_added() {
    assert_eq!(carried(&reread::<JobMessage>(&message())), ["", "/job"]);
    assert_eq!(carried(&reread::<JobEvent>(&event())), [""]);
    assert_eq!(carried(&reread::<Flow>(&flow())), ["", "/steps/0"]);
}

#[test]
fn a_key_that_is_stored_again_keeps_what_a_newer_build_added() {
    let mut newer = extended(&stored_key());
    newer["scopes"] = json!(["submit:a/*", "of a newer build"]);
    let text = newer.to_string();
    let read: StoredKey = serde_json::from_str(&text).unwrap();
    let submit: Scope = "submit:a/*".parse().unwrap();
    assert_eq!(read.key.scopes, [submit].into());
    let limits: Limits = serde_json::from_value(json!({"max_jobs": 9})).unwrap();
    let stored = StoredKey::with_limits(&text, &limits).unwrap();
    let reread: StoredKey = serde_json::from_str(&stored).unwrap();
    assert_eq!(reread.key.limits, limits);
    let mut expected = newer.clone();
    expected["limits"] = json!({"max_jobs": 9, NEW: newer["limits"][NEW].clone()});
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), expected);
    // A key without limits gets them.
    let mut bare = stored_key();
    bare.as_object_mut().map(|fields| fields.remove("limits"));
    let stored = StoredKey::with_limits(&bare.to_string(), &limits).unwrap();
    assert_eq!(
        serde_json::from_str::<StoredKey>(&stored)
            .unwrap()
            .key
            .limits,
        limits
    );
}

#[test]
fn requests_refuse_what_stored_forms_ignore() {
    let new = Map::from_iter([(NEW.to_owned(), json!(1))]);
    let refused = [
        serde_json::from_value::<NewKey>(json!({"name": "a", "scopes": [], "limits": new}))
            .is_err(),
        serde_json::from_value::<KeyChange>(json!({"limits": new})).is_err(),
        serde_json::from_value::<NewKey>(json!({"name": "a", "scopes": ["new"]})).is_err(),
        serde_json::from_value::<ModelChange>(json!({"load": [], NEW: 1})).is_err(),
    ];
    assert_eq!(refused, [true; 4]);
    let queued = json!({"load": ["m"], NEW: 1}).to_string();
    let change = ModelChange::from_queue(&queued).unwrap();
    assert_eq!(change.load, ["m".parse().unwrap()]);
    assert!(ModelChange::from_queue("{").is_err());
}

#[test]
fn a_job_of_a_newer_build_runs_although_its_descriptions_are_unknown() {
    let mut newer = message();
    newer["job"]["hint_source"] = json!({"kind": "guess", "by": "model"});
    newer["job"]["priority"] = json!("urgent");
    newer["job"]["route"][0]["kind"] = json!("auction");
    newer["faults"] = json!([
        {"runner": "gpu-1", "kind": "network", "message": "m"},
        {"runner": "gpu-2", "kind": "model", "message": "m"}
    ]);
    let read: JobMessage = serde_json::from_value(newer).unwrap();
    let JobMessage { job, faults, .. } = read;
    assert_eq!((job.hint_source, job.priority), (None, Priority::Normal));
    let hop = |hop: &Hop| (hop.route.to_string(), hop.kind);
    assert_eq!(hop(&job.route[0]), ("a/r".to_owned(), RouteKind::Switch));
    let runners = faults.iter().map(|fault| fault.runner.as_str());
    assert_eq!(runners.collect::<Vec<_>>(), ["gpu-2"]);
}

#[test]
fn a_record_is_read_although_what_explains_it_is_unknown() {
    let mut newer = record();
    newer["decision"]["tier"] = json!("cloud");
    newer["progress"]["phase"] = json!("dreaming");
    let read: JobRecord = serde_json::from_value(newer.clone()).unwrap();
    assert_eq!(read.progress, None);
    assert_eq!(read.decision.unwrap().tier, None);
    newer["decision"]["target"] = json!({"kind": "cloud"});
    let read: JobRecord = serde_json::from_value(newer).unwrap();
    assert_eq!(read.decision, None);
}
