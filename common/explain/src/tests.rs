//! Sentences for each kind of decision.

use super::*;
use serde_json::{Value, json};
use warmq_types::http::Job;

/// When the jobs of these tests were accepted, Unix ms.
const CREATED: u64 = 1_795_321_085_000;

/// A job that ran cold on `gpu-b` because no runner was warm.
fn job() -> Job {
    serde_json::from_value(json!({
        "id": "01a0a1b8-0d70-7000-8000-000000000001",
        "app": "warmq/diffusion", "hint": "digits", "priority": "normal", "input": {},
        "created_ms": CREATED, "state": "succeeded", "attempt": 1, "fence": 1,
        "dispatched_ms": CREATED + 12, "started_ms": CREATED + 20,
        "finished_ms": CREATED + 430, "runner": "gpu-b",
        "decision": {
            "policy": "fal", "target": {"kind": "runner", "runner": "gpu-b"}, "warm": false,
            "warm_candidates": [], "blank_candidates": ["gpu-b", "gpu-c"], "idle_runners": 3,
            "refused_claims": 0, "reason": "nobody idle has digits, and gpu-b has nothing loaded"
        },
        "timings": {"warm": false, "load_ms": 150, "run_ms": 240},
        "output": {}
    }))
    .unwrap()
}

/// Explains a job without steps.
fn story(job: &Job, now_ms: u64) -> Vec<String> {
    let tree = Tree {
        job: job.clone(),
        step_jobs: Vec::new(),
    };
    super::story(&tree, now_ms)
}

#[test]
fn a_cold_run_is_explained_with_its_cost() {
    let story = story(&job(), CREATED + 60_000);
    assert_eq!(
        story,
        [
            "Job 01a0a1b8-0d70-7000-8000-000000000001 was submitted to warmq/diffusion at \
             2026-11-22 04:18:05 UTC (1 min ago).",
            "Its hint is 'digits': a runner that has that loaded serves it warm.",
            "After 12 ms, the dispatcher (policy 'fal') sent it to gpu-b: nobody idle has digits, \
             and gpu-b has nothing loaded.",
            "At that moment 3 runners were idle, none with its model, gpu-b and gpu-c with nothing loaded yet.",
            "gpu-b started it 20 ms after the submission, cold as predicted: loading took 150 ms, then it ran 240 ms.",
            "It succeeded 430 ms after the submission.",
        ]
    );
}

#[test]
fn a_hint_from_the_input_is_explained_with_the_one_that_it_overrules() {
    let mut job = job();
    let mut need = |overruled: Value| {
        let source = json!({"kind": "input", "field": "input.model", "overruled": overruled});
        job.record.spec.hint_source = serde_json::from_value(source).unwrap();
        story(&job, CREATED)[1].clone()
    };
    let from =
        "Its hint is 'digits', from input.model: a runner that has that loaded serves it warm.";
    assert_eq!(need(Value::Null), from);
    let overruled = format!("{from} The hint 'ghost' of its header has no effect.");
    assert_eq!(need(json!("ghost")), overruled);
}

#[test]
fn a_routed_jobs_story_explains_every_hop() {
    let mut job = job();
    job.record.spec.route = serde_json::from_value(json!([
        {"route": "acme/images", "kind": "switch", "to": "acme/ab", "reason": "rule 1 of 1 applied: true"},
        {"route": "acme/ab", "kind": "split", "to": "warmq/diffusion", "reason": "80 of 100 go there"},
    ]))
    .unwrap();
    let story = story(&job, CREATED + 60_000);
    assert!(
        story[0].contains("was submitted to acme/images at"),
        "{}",
        story[0]
    );
    assert_eq!(
        story[1..3],
        [
            "Route acme/images (switch) sent it on to acme/ab: rule 1 of 1 applied: true.",
            "Route acme/ab (split) sent it on to warmq/diffusion: 80 of 100 go there.",
        ]
    );
}

#[test]
fn a_waiting_jobs_story_ends_in_the_queue() {
    let mut job = job();
    job.record.state = JobState::Queued;
    job.record.decision = None;
    job.record.started_ms = None;
    job.record.timings = None;
    job.queue_position = Some(1);
    let story = story(&job, CREATED);
    assert_eq!(story[2], "It waits in the queue, with 1 job ahead.");
    assert_eq!(story.last().unwrap(), "It has not started.");
}

#[test]
fn a_failed_jobs_story_ends_with_the_error() {
    let mut job = job();
    job.record.state = JobState::Failed;
    job.record.attempt = 3;
    job.record.error = Some(warmq_types::job::JobError::field(
        &["width"],
        "multiple_of",
        "7 is not a multiple of 8",
    ));
    let story = story(&job, CREATED);
    assert!(
        story.iter().any(|line| line.contains("as attempt 3")),
        "{story:?}"
    );
    assert_eq!(
        story.last().unwrap(),
        "It failed 430 ms after the submission, with multiple_of (HTTP 422): \
         width: 7 is not a multiple of 8."
    );
}

/// A job of policy `warm` with these fields, and without those that are null.
fn warm_job(fields: Value) -> Job {
    let mut job = json!({
        "id": "01a0a1b8-0d70-7000-8000-000000000001",
        "app": "warmq/diffusion", "hint": "digits", "input": {}, "created_ms": CREATED,
        "state": "succeeded", "attempt": 1, "fence": 1, "runner": "gpu-a",
        "dispatched_ms": CREATED + 2112, "started_ms": CREATED + 2120, "finished_ms": CREATED + 2370,
        "timings": {"warm": true, "load_ms": 0, "run_ms": 240}
    });
    merge(&mut job, fields);
    serde_json::from_value(job).unwrap()
}

fn merge(into: &mut Value, fields: Value) {
    for (name, value) in fields.as_object().unwrap() {
        match value.is_null() {
            true => into.as_object_mut().unwrap().remove(name),
            false => into
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
}

fn decision(fields: Value) -> Value {
    let mut decision = json!({
        "policy": "warm", "target": {"kind": "runner", "runner": "gpu-a"}, "warm": true,
        "warm_candidates": ["gpu-a"], "blank_candidates": [], "idle_runners": 1, "holders": 1,
        "held_ms": 0, "refused_claims": 0, "reason": "gpu-a came free, with 'digits' loaded"
    });
    merge(&mut decision, fields);
    decision
}

fn hold() -> Value {
    json!({
        "since_ms": CREATED + 12, "until_ms": CREATED + 20_012, "predicted_wait_ms": 1800,
        "holders": 1, "idle_runners": 0, "reason": "the one runner with 'digits' was busy, and no other was idle"
    })
}

/// Returns the lines between the submission and the end.
fn middle(job: &Job, now_ms: u64) -> Vec<String> {
    let story = story(job, now_ms);
    story[2..story.len() - 1].to_vec()
}

#[test]
fn sent_at_once_to_a_warm_runner() {
    let job = warm_job(json!({
        "dispatched_ms": CREATED + 12, "started_ms": CREATED + 20,
        "decision": decision(json!({
            "warm_candidates": ["gpu-a", "gpu-b", "gpu-d"], "idle_runners": 4, "holders": 5,
            "reason": "gpu-a was idle and had 'digits' loaded"
        }))
    }));
    assert_eq!(
        middle(&job, CREATED),
        [
            "After 12 ms, the dispatcher (policy 'warm') sent it to gpu-a: gpu-a was idle and had 'digits' loaded.",
            "At that moment 4 runners were idle, gpu-a, gpu-b and gpu-d with its model; 5 runners in all held it or \
             were loading it.",
            "gpu-a started it 20 ms after the submission, warm as predicted: nothing had to be loaded, and it ran 240 ms.",
        ]
    );
}

#[test]
fn held_and_then_sent_to_a_warm_runner() {
    let job = warm_job(json!({
        "hold": hold(),
        "decision": decision(json!({"held_ms": 2100, "predicted_wait_ms": 1800}))
    }));
    assert_eq!(
        middle(&job, CREATED),
        [
            "After 12 ms, the dispatcher held it for a warm runner: the one runner with 'digits' was busy, and no other \
             was idle.",
            "A warm one was predicted in 1.8 s, and after 20.0 s any idle runner would do; in fact it was held for 2.1 s.",
            "Then the dispatcher (policy 'warm') sent it to gpu-a: gpu-a came free, with 'digits' loaded.",
            "At that moment 1 runner was idle, gpu-a with its model; 1 runner in all held it or was loading it.",
            "gpu-a started it 2.1 s after the submission, warm as predicted: nothing had to be loaded, and it ran 240 ms.",
        ]
    );
}

#[test]
fn held_until_its_patience_was_over_and_then_cold() {
    let mut hold = hold();
    hold["until_ms"] = (CREATED + 2012).into();
    let job = warm_job(json!({
        "hold": hold, "runner": "gpu-b", "timings": {"warm": false, "load_ms": 5100, "run_ms": 240},
        "decision": decision(json!({
            "held_ms": 2001, "predicted_wait_ms": 1800, "warm": false, "warm_candidates": [], "idle_runners": 2,
            "target": {"kind": "runner", "runner": "gpu-b"},
            "reason": "its patience was over, so gpu-b took it without 'digits' loaded"
        }))
    }));
    assert_eq!(
        middle(&job, CREATED)[1..],
        [
            "A warm one was predicted in 1.8 s, and after 2.0 s any idle runner would do; in fact it was held for 2.0 s.",
            "Then the dispatcher (policy 'warm') sent it to gpu-b: its patience was over, so gpu-b took it without \
             'digits' loaded.",
            "At that moment 2 runners were idle, none with its model; 1 runner in all held it or was loading it.",
            "gpu-b started it 2.1 s after the submission, cold as predicted: loading took 5.1 s, then it ran 240 ms.",
        ]
    );
}

#[test]
fn replicated_since_the_wait_would_have_cost_more_than_the_load() {
    let job = warm_job(json!({
        "dispatched_ms": CREATED + 12, "started_ms": CREATED + 20,
        "timings": {"warm": false, "load_ms": 5100, "run_ms": 240},
        "decision": decision(json!({
            "predicted_wait_ms": 7000, "warm": false, "warm_candidates": [], "holders": 2,
            "reason": "a runner with 'digits' would have come free in 7.0 s; above 3.0 s another copy pays, so gpu-a loads it"
        }))
    }));
    assert_eq!(
        middle(&job, CREATED)[..2],
        [
            "After 12 ms, the dispatcher (policy 'warm') sent it to gpu-a: a runner with 'digits' would have come free \
             in 7.0 s; above 3.0 s another copy pays, so gpu-a loads it.",
            "At that moment 1 runner was idle, none with its model; 2 runners in all held it or were loading it.",
        ]
    );
}

#[test]
fn without_a_hint_it_goes_to_the_shared_queue() {
    let free = "it carries no hint, so every runner is equal to it";
    let job = warm_job(json!({
        "hint": null, "dispatched_ms": CREATED + 12, "started_ms": CREATED + 20,
        "decision": decision(json!({
            "target": {"kind": "shared"}, "warm": false, "warm_candidates": [], "holders": null,
            "idle_runners": 2, "reason": free
        }))
    }));
    assert_eq!(
        story(&job, CREATED)[1..4],
        [
            "It has no hint, so any runner serves it equally well.",
            "After 12 ms, the dispatcher (policy 'warm') sent it to the shared queue: it carries no hint, \
             so every runner is equal to it.",
            "At that moment 2 runners were idle.",
        ]
    );
}

#[test]
fn without_a_hint_it_is_held_only_while_all_runners_are_busy() {
    let job = warm_job(json!({
        "hint": null,
        "hold": {"since_ms": CREATED + 12, "until_ms": CREATED + 12, "holders": 0, "idle_runners": 0,
                 "reason": "no runner was idle"},
        "decision": decision(json!({
            "held_ms": 2100, "holders": 0,
            "reason": "it carries no hint, so every runner is equal to it; gpu-a came free"
        }))
    }));
    assert_eq!(
        middle(&job, CREATED),
        [
            "After 12 ms, the dispatcher held it until a runner is free for it: no runner was idle.",
            "Any runner would do; it was held for 2.1 s.",
            "Then the dispatcher (policy 'warm') sent it to gpu-a: it carries no hint, so every runner is equal to it; \
             gpu-a came free.",
            "At that moment 1 runner was idle.",
            "gpu-a started it 2.1 s after the submission, warm: nothing had to be loaded, and it ran 240 ms.",
        ]
    );
}

#[test]
fn a_held_job_is_explained_with_its_remaining_hold() {
    let mut job = warm_job(json!({
        "state": "queued", "attempt": 0, "hold": hold(), "runner": null, "dispatched_ms": null,
        "started_ms": null, "finished_ms": null, "timings": null, "queue_position": 0
    }));
    let held = "After 12 ms, the dispatcher held it for a warm runner: the one runner with 'digits' was busy, and no \
                other was idle.";
    assert_eq!(
        story(&job, CREATED + 5012)[2..],
        [
            held,
            "A warm one was predicted in 1.8 s. It has been held for 5.0 s; in 15.0 s at most any idle runner that can \
             load it will do.",
            "It waits in the queue, with no jobs ahead.",
            "It has not started.",
        ]
    );
    job.record.hold.as_mut().unwrap().predicted_wait_ms = None;
    assert_eq!(
        story(&job, CREATED + 25_012)[3],
        "When a warm one comes free cannot be predicted. It has been held for 25.0 s; now any idle runner that can \
         load it will do."
    );
}

#[test]
fn a_job_that_came_back_is_held_anew() {
    let mut again = hold();
    again["since_ms"] = (CREATED + 3000).into();
    again["until_ms"] = again["since_ms"].clone();
    let job = warm_job(json!({
        "state": "dispatched", "hold": again, "decision": decision(json!({})),
        "started_ms": null, "finished_ms": null, "timings": null
    }));
    assert_eq!(
        middle(&job, CREATED + 4000)[2..],
        [
            "It was requeued since, and waits again.",
            "After 3.0 s, the dispatcher held it until a runner is free for it: the one runner with 'digits' was busy, and no \
             other was idle.",
            "It has been held for 1.0 s; any runner will do.",
        ]
    );
}

#[test]
fn a_failed_claim_is_explained() {
    let refused = |claims: u32| {
        let decision = decision(json!({"refused_claims": claims}));
        middle(&warm_job(json!({"decision": decision})), CREATED)[2].clone()
    };
    assert_eq!(
        refused(1),
        "1 claim had failed before: the runner was taken in between."
    );
    assert_eq!(
        refused(2),
        "2 claims had failed before: the runner was taken in between."
    );
}

#[test]
fn a_wrong_prediction_is_explained() {
    let ran = |predicted: bool, timings: Value| {
        let decision = decision(json!({"warm": predicted}));
        let job = warm_job(json!({"decision": decision, "timings": timings}));
        middle(&job, CREATED).pop().unwrap()
    };
    assert_eq!(
        ran(true, json!({"warm": false, "load_ms": 5100, "run_ms": 240})),
        "gpu-a started it 2.1 s after the submission, cold: loading took 5.1 s, then it ran 240 ms. It had been \
         predicted warm, but its model was gone by then."
    );
    assert_eq!(
        ran(false, json!({"warm": true, "load_ms": 0, "run_ms": 240})),
        "gpu-a started it 2.1 s after the submission, warm: nothing had to be loaded, and it ran 240 ms. A load had \
         been predicted, but its model was there by then."
    );
}

#[test]
fn a_cancelled_job_is_explained_with_its_time() {
    let mut job = job();
    job.record.state = JobState::Cancelled;
    job.record.timings = None;
    assert_eq!(
        story(&job, CREATED).last().unwrap(),
        "It was cancelled at 2026-11-22 04:18:05 UTC, 430 ms after the submission."
    );
}

#[test]
fn a_flows_story_explains_each_step_and_why_it_was_begun() {
    let mut flow = job();
    flow.record = JobRecord {
        state: JobState::Failed,
        decision: None,
        flow: serde_json::from_value(json!({"kind": "fallback", "of": 2, "steps": [
            {"index": 0, "name": "acme/fast", "to": "acme/fast", "app": "acme/fast",
             "job": "01a0a1b8-0d70-7000-8000-000000000002", "begun_ms": CREATED + 3, "given_up": "it did not end within 1 s",
             "end": {"state": "failed", "at_ms": CREATED + 1004}},
            {"index": 1, "name": "acme/slow", "to": "acme/slow", "app": "acme/slow",
             "job": "01a0a1b8-0d70-7000-8000-000000000003", "begun_ms": CREATED + 1004,
             "reason": "acme/fast was given up: it did not end within 1 s",
             "end": {"state": "failed", "at_ms": CREATED + 1400, "error": "the input is invalid"}},
        ]}))
        .unwrap(),
        ..flow.record
    };
    let tree = Tree {
        job: flow,
        step_jobs: vec![
            Some(Tree {
                job: job(),
                step_jobs: Vec::new(),
            }),
            None,
        ],
    };
    let story = super::story(&tree, CREATED + 60_000);
    let told = |line: &str| story.iter().position(|told| told == line);
    let order = [
        "It is a fallback over 2 choices: the next one is tried when one fails.",
        "Choice (1 of 2) was begun 3 ms after the submission: acme/fast.",
        "  It succeeded 430 ms after the submission.",
        "It was given up: it did not end within 1 s.",
        "Choice (2 of 2) was begun 1.0 s after the submission: acme/slow, since acme/fast was given up: it did not end within 1 s.",
        "It failed: the input is invalid.",
    ]
    .map(told);
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?}: {story:#?}"
    );
    assert!(
        !story
            .iter()
            .any(|line| line.contains("hint") && !line.starts_with("  ")),
        "{story:#?}"
    );
}
