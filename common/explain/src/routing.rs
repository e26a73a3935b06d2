//! Describes a job from the queue to a runner: holds, their reasons and durations, the placement
//! and its reason.

use warmq_types::hint::Hint;
use warmq_types::http::Job;
use warmq_types::job::{Decision, Hold, JobRecord, Target};
use warmq_types::state::JobState;

use super::text::{count, ended, names};
use crate::time::duration;

/// Describes placement as far as it got.
pub(super) fn describe(job: &Job, now_ms: u64) -> Vec<String> {
    let record = &job.record;
    let is_waiting = record.state.is_waiting();
    let held_now = record.hold.as_ref().filter(|hold| {
        is_waiting
            && record
                .dispatched_ms
                .is_none_or(|sent_ms| hold.since_ms >= sent_ms)
    });
    let mut lines = Vec::new();
    match &record.decision {
        Some(decision) => lines.extend(routing(decision, record)),
        None if is_waiting => {}
        None if record.state == JobState::Cancelled || record.state == JobState::Expired => {}
        None => lines.push("The reason for its placement is not recorded.".to_owned()),
    }
    let came_back =
        record.decision.is_some() && (record.state == JobState::Queued || held_now.is_some());
    if came_back {
        lines.push("It was requeued since, and waits again.".to_owned());
    }
    if let Some(hold) = held_now {
        lines.push(held(hold, record));
        lines.push(held_so_far(hold, record, now_ms));
    }
    if record.state == JobState::Queued {
        lines.push(waiting(job));
    }
    lines
}

/// Describes the decision, and the hold before it.
fn routing(decision: &Decision, record: &JobRecord) -> Vec<String> {
    let sent = match &decision.target {
        Target::Runner { runner } => format!("sent it to {runner}"),
        Target::Shared => "sent it to the shared queue".to_owned(),
    };
    let reason = ended(&decision.reason);
    let hold = record.hold.as_ref().filter(|_| decision.held_ms > 0);
    let mut lines = match hold {
        Some(hold) => vec![
            held(hold, record),
            held_in_all(hold, decision, record),
            format!(
                "Then the dispatcher (policy '{}') {sent}: {reason}",
                decision.policy
            ),
        ],
        None => vec![format!(
            "{} (policy '{}') {sent}: {reason}",
            dispatcher(record, record.dispatched_ms),
            decision.policy
        )],
    };
    lines.push(fleet(decision, record.spec.hint.as_ref()));
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

/// Formats `After 12 ms, the dispatcher`.
fn dispatcher(record: &JobRecord, acted_ms: Option<u64>) -> String {
    let since_ms = |at_ms: u64| at_ms.saturating_sub(record.spec.created_ms);
    match acted_ms.map(since_ms) {
        Some(ms) => format!("After {}, the dispatcher", duration(ms)),
        None => "The dispatcher".to_owned(),
    }
}

/// Describes the hold and its reason.
fn held(hold: &Hold, record: &JobRecord) -> String {
    let what_for = match patience_ms(hold, record) {
        Some(_) => "for a warm runner",
        None => "until a runner is free for it",
    };
    format!(
        "{} held it {what_for}: {}",
        dispatcher(record, Some(hold.since_ms)),
        ended(&hold.reason)
    )
}

/// Describes how long the hold lasted, and the prediction.
fn held_in_all(hold: &Hold, decision: &Decision, record: &JobRecord) -> String {
    let held = duration(decision.held_ms);
    match (patience_ms(hold, record), decision.predicted_wait_ms) {
        (None, _) => format!("Any runner would do; it was held for {held}."),
        (Some(patience_ms), Some(predicted_ms)) => format!(
            "A warm one was predicted in {}, and after {} {}; in fact it was held for {held}.",
            duration(predicted_ms),
            duration(patience_ms),
            eligible_then(hold)
        ),
        (Some(patience_ms), None) => format!(
            "When a warm one would come free could not be predicted, and after {} {}; it was held for {held}.",
            duration(patience_ms),
            eligible_then(hold)
        ),
    }
}

/// Describes which runner the job gets after its patience.
fn eligible_then(hold: &Hold) -> &'static str {
    match hold.bounded {
        true => "the next free runner was its, unless a job was due before it",
        false => "any idle runner would do",
    }
}

/// Describes how long the job has been held, and for how much longer at most.
fn held_so_far(hold: &Hold, record: &JobRecord, now_ms: u64) -> String {
    let held = duration(now_ms.saturating_sub(hold.since_ms));
    let predicted = match hold.predicted_wait_ms {
        _ if patience_ms(hold, record).is_none() => String::new(),
        Some(predicted_ms) => format!("A warm one was predicted in {}. ", duration(predicted_ms)),
        None => "When a warm one comes free cannot be predicted. ".to_owned(),
    };
    let whichever = match hold.bounded {
        true => "the next free runner is its, unless a job was due before it",
        false => "any idle runner that can load it will do",
    };
    let left = match hold.until_ms.saturating_sub(now_ms) {
        0 if patience_ms(hold, record).is_none() => "any runner will do".to_owned(),
        0 => format!("now {whichever}"),
        left_ms => format!("in {} at most {whichever}", duration(left_ms)),
    };
    format!("{predicted}It has been held for {held}; {left}.")
}

/// Returns the longest hold for a warm runner, ms; `None` if any runner will do from the start.
fn patience_ms(hold: &Hold, record: &JobRecord) -> Option<u64> {
    let patience_ms = hold.until_ms.saturating_sub(hold.since_ms);
    Some(patience_ms).filter(|ms| *ms > 0 && record.spec.hint.is_some())
}

/// Describes the idle runners at the decision.
fn fleet(decision: &Decision, hint: Option<&Hint>) -> String {
    let idle = count(
        decision.idle_runners,
        "runner was idle",
        "runners were idle",
    );
    let mut sentence = format!("At that moment {idle}");
    if hint.is_some() {
        if decision.idle_runners > 0 {
            sentence += &format!(", {} with its model", names(&decision.warm_candidates));
        }
        if !decision.blank_candidates.is_empty() {
            let blank = names(&decision.blank_candidates);
            sentence += &format!(", {blank} with nothing loaded yet");
        }
        sentence += &match decision.holders {
            None => String::new(),
            Some(0) => "; no runner held it".to_owned(),
            Some(1) => "; 1 runner in all held it or was loading it".to_owned(),
            Some(holders) => format!("; {holders} runners in all held it or were loading it"),
        };
    }
    sentence + "."
}

fn waiting(job: &Job) -> String {
    match job.queue_position {
        Some(ahead) => format!(
            "It waits in the queue, with {} ahead.",
            count(ahead, "job", "jobs")
        ),
        None => "It waits in the queue.".to_owned(),
    }
}
