//! Explains a job in sentences, from its record: what was submitted, the routes to its app, holds
//! and their reasons, the placement and its reason, the cost, and whether the prediction held. No
//! I/O: `warmq explain` and the router's API fetch the records.

mod routing;
mod text;
pub mod time;
mod tree;

use warmq_types::hint::HintSource;
use warmq_types::job::{JobRecord, JobSpec, Priority, Target, Timings};
use warmq_types::route::Hop;
use warmq_types::state::JobState;

use crate::time::{duration, utc};
use text::ended;

pub use text::count;
pub use tree::Tree;

/// Explains a job, one or two sentences per line; the steps of a flow are indented. `now_ms`: the
/// present, Unix ms.
pub fn story(tree: &Tree, now_ms: u64) -> Vec<String> {
    let Tree { job, step_jobs } = tree;
    let record = &job.record;
    let mut story = vec![submission(record, now_ms)];
    story.extend(record.spec.route.iter().map(hop));
    match &record.flow {
        None => {
            story.push(need(&record.spec));
            story.extend(routing::describe(job, now_ms));
            story.extend(cost(record));
        }
        Some(flow) => {
            let of_step = |tree: &Tree| self::story(tree, now_ms);
            story.extend(tree::steps(record, flow, step_jobs, of_step));
        }
    }
    story.push(outcome(record, now_ms));
    story
}

fn submission(record: &JobRecord, now_ms: u64) -> String {
    let spec = &record.spec;
    if let Some(step) = &spec.step_of {
        let number = step.index + 1;
        let (id, flow, route) = (spec.id, step.flow, &step.route);
        return format!("Job {id} is step {number} of flow {flow} of {route}.");
    }
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
        spec.submitted_to(),
        utc(spec.created_ms),
        duration(now_ms.saturating_sub(spec.created_ms)),
    )
}

/// Describes a hop through a route.
fn hop(hop: &Hop) -> String {
    let (kind, reason) = (hop.kind.as_str(), ended(&hop.reason));
    format!(
        "Route {} ({kind}) sent it on to {}: {reason}",
        hop.route, hop.to
    )
}

fn need(spec: &JobSpec) -> String {
    let Some(hint) = &spec.hint else {
        return "It has no hint, so any runner serves it equally well.".to_owned();
    };
    let (source, overruled) = match &spec.hint_source {
        Some(HintSource::Input { field, overruled }) => {
            (format!(", from {field}"), overruled.as_ref())
        }
        Some(HintSource::Header) | None => (String::new(), None),
    };
    let overruled =
        overruled.map(|hint| format!(" The hint '{hint}' of its header has no effect."));
    format!(
        "Its hint is '{hint}'{source}: a runner that has that loaded serves it warm.{}",
        overruled.unwrap_or_default()
    )
}

/// Describes waiting, loading and running, as far as the job got.
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
    let Some(timings) = record.timings else {
        return Some(format!("{began}."));
    };
    let Timings {
        warm,
        load_ms,
        run_ms,
        from_ram,
    } = timings;
    let source = if from_ram { " from RAM" } else { "" };
    let (load, ran) = (duration(load_ms), duration(run_ms));
    Some(match (warm, predicted_warm(record)) {
        (true, Some(true)) => {
            format!("{began}, warm as predicted: nothing had to be loaded, and it ran {ran}.")
        }
        (false, Some(false)) => {
            format!("{began}, cold as predicted: loading{source} took {load}, then it ran {ran}.")
        }
        (true, Some(false)) => format!(
            "{began}, warm: nothing had to be loaded, and it ran {ran}. A load had been predicted, but its model was \
             there by then."
        ),
        (false, Some(true)) => format!(
            "{began}, cold: loading{source} took {load}, then it ran {ran}. It had been predicted \
             warm, but its model was gone by then."
        ),
        (true, None) => format!("{began}, warm: nothing had to be loaded, and it ran {ran}."),
        (false, None) => {
            format!("{began}, cold: loading{source} took {load}, then it ran {ran}.")
        }
    })
}

/// Returns the decision's prediction for the runner that ran the job, `None` if there is none.
fn predicted_warm(record: &JobRecord) -> Option<bool> {
    record.spec.hint.as_ref()?;
    let decision = record.decision.as_ref()?;
    match &decision.target {
        Target::Runner { runner } if record.runner.as_ref() == Some(runner) => Some(decision.warm),
        _ => None,
    }
}

fn outcome(record: &JobRecord, now_ms: u64) -> String {
    let took = record
        .finished_ms
        .map(|at| duration(at.saturating_sub(record.spec.created_ms)));
    let after = took.map_or_else(String::new, |took| format!(" {took} after the submission"));
    match (record.state, &record.error) {
        (JobState::Queued | JobState::Dispatched | JobState::Running, _)
            if let Some(flow) = &record.flow =>
        {
            tree::under_way(flow)
        }
        (JobState::Succeeded, _) => format!("It succeeded{after}."),
        (JobState::Failed, Some(error)) => format!(
            "It failed{after}, with {} (HTTP {}): {}",
            error.error_type,
            error.status,
            ended(&error.message)
        ),
        (JobState::Failed, None) => format!("It failed{after}."),
        (JobState::Cancelled, _) => match record.finished_ms {
            Some(at) => format!("It was cancelled at {},{after}.", utc(at)),
            None => "It was cancelled.".to_owned(),
        },
        (JobState::Expired, _) => match record.spec.start_timeout_ms {
            Some(timeout_ms) => format!(
                "It expired{after}: it had not started within {}.",
                duration(timeout_ms)
            ),
            None => format!("It expired{after}: no runner started it in time."),
        },
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

#[cfg(test)]
mod tests;
