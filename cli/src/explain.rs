//! A job's story in sentences, told from its record: what was asked, where it went and why, what it cost.

use warmq_common::hint::Hint;
use warmq_common::ids::RunnerId;
use warmq_common::job::{Decision, JobRecord, Priority, Target, Timings};
use warmq_common::state::JobState;

use crate::client::JobView;
use crate::time::{duration, utc};

/// The story, one sentence (or two) per line. `now_ms`: the present, Unix ms.
pub fn story(job: &JobView, now_ms: u64) -> Vec<String> {
    let record = &job.record;
    let mut story = vec![submission(record, now_ms), need(record.spec.hint.as_ref())];
    match &record.decision {
        Some(decision) => story.extend(routing(decision, record)),
        None if record.state == JobState::Queued => story.push(waiting(job)),
        None => story.push("Why it went where it went is not recorded.".to_owned()),
    }
    if record.decision.is_some() && record.state == JobState::Queued {
        story.push(format!(
            "It came back since, and waits again. {}",
            waiting(job)
        ));
    }
    story.extend(cost(record));
    story.push(outcome(record, now_ms));
    story
}

fn submission(record: &JobRecord, now_ms: u64) -> String {
    let spec = &record.spec;
    let path = match spec.path.as_str() {
        "" => String::new(),
        path => format!(" at path '{path}'"),
    };
    let lane = match spec.priority {
        Priority::Normal => "",
        Priority::Low => ", with low priority",
    };
    let reply = match &spec.reply_to {
        Some(_) => " by AMQP, with a queue for the reply",
        None => "",
    };
    format!(
        "Job {} was submitted to {}{path}{reply} at {} ({} ago){lane}.",
        spec.id,
        spec.app,
        utc(spec.created_ms),
        duration(now_ms.saturating_sub(spec.created_ms)),
    )
}

fn need(hint: Option<&Hint>) -> String {
    match hint {
        Some(hint) => {
            format!("Its hint is '{hint}': a runner that has that loaded serves it warm.")
        }
        None => "It has no hint, so any runner serves it equally well.".to_owned(),
    }
}

fn routing(decision: &Decision, record: &JobRecord) -> Vec<String> {
    let sent = match &decision.target {
        Target::Runner { runner } => format!("sent it to {runner}"),
        Target::Shared => "left it to whichever runner is free first".to_owned(),
    };
    let waited = record
        .dispatched_ms
        .map(|at| at.saturating_sub(record.spec.created_ms));
    let after = waited.map_or_else(String::new, |ms| format!("After {}, ", duration(ms)));
    let the = if after.is_empty() { "The" } else { "the" };
    let mut lines = vec![
        format!(
            "{after}{the} dispatcher (policy '{}') {sent}: {}",
            decision.policy,
            ended(&decision.reason)
        ),
        format!(
            "At that moment {} idle: warm {}, blank {}.",
            count(decision.idle_runners, "runner was", "runners were"),
            names(&decision.warm_candidates),
            names(&decision.blank_candidates),
        ),
    ];
    if decision.refused_claims > 0 {
        lines.push(format!(
            "{} before: the runner was taken in between.",
            count(
                u64::from(decision.refused_claims),
                "claim had failed",
                "claims had failed"
            )
        ));
    }
    lines
}

fn waiting(job: &JobView) -> String {
    match job.queue_position {
        Some(ahead) => format!(
            "It waits in the queue, with {} ahead.",
            count(ahead, "job", "jobs")
        ),
        None => "It waits in the queue.".to_owned(),
    }
}

/// Waiting, loading and running, as far as it got.
fn cost(record: &JobRecord) -> Option<String> {
    let started = record.started_ms?;
    let runner = match &record.runner {
        Some(runner) => runner.to_string(),
        None => "A runner".to_owned(),
    };
    let queued = duration(started.saturating_sub(record.spec.created_ms));
    let attempt = match record.attempt {
        0 | 1 => String::new(),
        attempt => format!(", as attempt {attempt}"),
    };
    let began = format!("{runner} started it {queued} after the submission{attempt}");
    Some(match record.timings {
        Some(Timings {
            warm: true, run_ms, ..
        }) => {
            format!(
                "{began}, warm: nothing had to be loaded, and it ran {}.",
                duration(run_ms)
            )
        }
        Some(Timings {
            load_ms, run_ms, ..
        }) => format!(
            "{began}, cold: loading took {}, then it ran {}.",
            duration(load_ms),
            duration(run_ms)
        ),
        None => format!("{began}."),
    })
}

fn outcome(record: &JobRecord, now_ms: u64) -> String {
    let took = record
        .finished_ms
        .map(|at| duration(at.saturating_sub(record.spec.created_ms)));
    let after = took.map_or_else(String::new, |took| format!(" {took} after the submission"));
    match (record.state, &record.error) {
        (JobState::Succeeded, _) => format!("It succeeded{after}."),
        (JobState::Failed, Some(error)) => format!(
            "It failed{after}, with {} (HTTP {}): {}",
            error.error_type,
            error.status,
            ended(&error.message)
        ),
        (JobState::Failed, None) => format!("It failed{after}."),
        (JobState::Cancelled, _) => format!("It was cancelled{after}."),
        (JobState::Expired, _) => format!("It expired{after}: no runner took it in time."),
        (JobState::Queued, _) => "It has not started.".to_owned(),
        (JobState::Dispatched, _) => "The runner has not started it yet.".to_owned(),
        (JobState::Running, _) => {
            let since = record
                .started_ms
                .map(|at| duration(now_ms.saturating_sub(at)));
            match since {
                Some(since) => format!("It has been running for {since}."),
                None => "It is running.".to_owned(),
            }
        }
    }
}

fn names(runners: &[RunnerId]) -> String {
    match runners {
        [] => "none".to_owned(),
        some => {
            let names: Vec<&str> = some.iter().map(RunnerId::as_str).collect();
            names.join(", ")
        }
    }
}

fn count(number: u64, one: &str, many: &str) -> String {
    match number {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// With a full stop at its end.
fn ended(sentence: &str) -> String {
    format!("{}.", sentence.trim().trim_end_matches('.'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A job that ran cold on `gpu-b` because nobody was warm.
    pub(crate) fn job() -> JobView {
        serde_json::from_value(json!({
            "id": "01a0a1b8-0d70-7000-8000-000000000001",
            "app": "warmq/diffusion", "hint": "digits", "priority": "normal", "input": {},
            "created_ms": 1_795_321_085_000u64, "state": "succeeded", "attempt": 1, "fence": 1,
            "dispatched_ms": 1_795_321_085_012u64, "started_ms": 1_795_321_085_020u64,
            "finished_ms": 1_795_321_085_430u64, "runner": "gpu-b",
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

    #[test]
    fn a_cold_jobs_story_says_why_and_what_it_cost() {
        let story = story(&job(), 1_795_321_145_000);
        assert_eq!(
            story,
            [
                "Job 01a0a1b8-0d70-7000-8000-000000000001 was submitted to warmq/diffusion at \
                 2026-11-22 04:18:05 UTC (1 min ago).",
                "Its hint is 'digits': a runner that has that loaded serves it warm.",
                "After 12 ms, the dispatcher (policy 'fal') sent it to gpu-b: nobody idle has digits, \
                 and gpu-b has nothing loaded.",
                "At that moment 3 runners were idle: warm none, blank gpu-b, gpu-c.",
                "gpu-b started it 20 ms after the submission, cold: loading took 150 ms, then it ran 240 ms.",
                "It succeeded 430 ms after the submission.",
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
        let story = story(&job, 1_795_321_085_000);
        assert_eq!(story[2], "It waits in the queue, with 1 job ahead.");
        assert_eq!(story.last().unwrap(), "It has not started.");
    }

    #[test]
    fn a_failed_jobs_story_ends_with_the_error() {
        let mut job = job();
        job.record.state = JobState::Failed;
        job.record.attempt = 3;
        job.record.error = Some(warmq_common::job::JobError::field(
            &["width"],
            "multiple_of",
            "7 is not a multiple of 8",
        ));
        let story = story(&job, 1_795_321_085_000);
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
}
