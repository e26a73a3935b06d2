//! Decides how a flow proceeds: a pure function of its declaration, its ended steps and the apps
//! with runners.

use std::time::Duration;

use warmq_types::flow::{Flow, Step, StepEnd};
use warmq_types::ids::AppId;
use warmq_types::job::{JobError, JobRecord};
use warmq_types::route::RouteKind;
use warmq_types::state::JobState;

/// Delay of the next evaluation without an event.
const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The same for a step that waits for a runner while others could take over: the loss of its app's
/// last runner causes no event, and is detected after a lease (15 s).
const RUNNER_RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What a flow does once all begun steps have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NextAction {
    /// Begin this step.
    Begin {
        /// Index among the declared steps, from 0.
        index: usize,
        /// Reason, if there was a choice.
        reason: Option<String>,
    },
    /// End with the last step's output.
    Succeed,
    /// End with the last step's error.
    Fail,
}

/// Decides how a flow proceeds. `has_runners`: whether an app with a live runner is reachable
/// through a target.
pub(super) fn decide(
    declared: warmq_rules::DeclaredFlow<'_>,
    flow: &Flow,
    has_runners: impl Fn(&AppId) -> bool,
) -> NextAction {
    let last = flow.steps.last();
    let from = last.map_or(0, |step| step.index as usize + 1);
    let end = last.and_then(|step| step.end.as_ref());
    let succeeded = end.is_some_and(|end| end.state == JobState::Succeeded);
    // A cancelled step is not replaced, and the start timeout is that of the whole flow.
    let is_over = [JobState::Cancelled, JobState::Expired];
    let unwanted = end.is_some_and(|end| is_over.contains(&end.state));
    let is_last = from >= declared.steps.len();
    match declared.kind {
        _ if unwanted => NextAction::Fail,
        RouteKind::Fallback if succeeded => NextAction::Succeed,
        RouteKind::Fallback if is_last => NextAction::Fail,
        RouteKind::Fallback => {
            let rest = &declared.steps[from..];
            // If no target has runners, the first one waits for them.
            let passed = rest.iter().position(|step| has_runners(&step.app));
            let passed = passed.unwrap_or(0);
            let mut reasons: Vec<String> = (last.into_iter())
                .map(|step| format!("{} {}", step.to, failure_reason(step)))
                .collect();
            let without = rest[..passed].iter();
            reasons.extend(without.map(|step| format!("{} has no runner", step.app)));
            NextAction::Begin {
                index: from + passed,
                reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            }
        }
        _ if last.is_some() && !succeeded => NextAction::Fail,
        _ if is_last => NextAction::Succeed,
        _ => NextAction::Begin {
            index: from,
            reason: None,
        },
    }
}

fn failure_reason(step: &Step) -> String {
    let error = step.end.as_ref().and_then(|end| end.error.as_deref());
    match (&step.given_up, error) {
        (Some(reason), _) => format!("was given up: {reason}"),
        (None, Some(error)) => format!("failed: {error}"),
        (None, None) => "failed".to_owned(),
    }
}

/// Returns why a running step must be given up; `None` to continue.
pub(super) fn give_up(
    declared: warmq_rules::DeclaredFlow<'_>,
    step: &Step,
    is_waiting: bool,
    now_ms: u64,
    has_runners: impl Fn(&AppId) -> bool,
) -> Option<String> {
    if step.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
        let within_s = (step.until_ms.unwrap_or(now_ms) - step.begun_ms) as f64 / 1000.0;
        return Some(format!("it did not end within {within_s} s"));
    }
    let later = others(declared, step);
    let is_stranded = is_waiting && !has_runners(&step.to);
    (is_stranded && later.iter().any(|step| has_runners(&step.app)))
        .then(|| "its app lost its last runner".to_owned())
}

/// Returns the delay of the next evaluation of a running step.
pub(super) fn recheck_after(
    declared: warmq_rules::DeclaredFlow<'_>,
    step: &Step,
    is_waiting: bool,
    now_ms: u64,
) -> Duration {
    let without_news = match is_waiting && !others(declared, step).is_empty() {
        true => RUNNER_RECHECK_INTERVAL,
        false => RECHECK_INTERVAL,
    };
    match step.until_ms {
        Some(until_ms) => without_news.min(Duration::from_millis(until_ms.saturating_sub(now_ms))),
        None => without_news,
    }
}

/// Returns the steps that could replace this one.
fn others<'r>(
    declared: warmq_rules::DeclaredFlow<'r>,
    step: &Step,
) -> &'r [warmq_rules::DeclaredStep] {
    match declared.kind {
        RouteKind::Fallback => declared
            .steps
            .get(step.index as usize + 1..)
            .unwrap_or_default(),
        _ => &[],
    }
}

/// Returns the end of a step by its job's record. A step that was given up and then cancelled has
/// failed.
pub(super) fn end_of(step: &Step, record: &JobRecord, now_ms: u64) -> StepEnd {
    let (state, error) = match (&step.given_up, record.state) {
        (Some(reason), JobState::Cancelled | JobState::Expired) => {
            (JobState::Failed, Some(reason.clone()))
        }
        (_, state) => (state, record.failure().map(|error| error.message)),
    };
    StepEnd {
        state,
        at_ms: now_ms,
        timings: record.timings,
        error,
    }
}

/// Returns state and error of a flow whose step failed. `error`: the step's own.
pub(super) fn failure(flow: &Flow, error: JobError) -> (JobState, JobError) {
    let Some(step) = flow.steps.last() else {
        return (JobState::Failed, error);
    };
    let error = match &step.given_up {
        Some(reason) => JobError::timeout(reason.clone()),
        None => error,
    };
    let place = match flow.kind {
        RouteKind::Fallback => step.to.to_string(),
        _ => format!("step {}", step.name),
    };
    let state = match step.end.as_ref().map(|end| end.state) {
        Some(JobState::Cancelled) => JobState::Cancelled,
        // No step of the flow started in time.
        Some(JobState::Expired) if flow.steps.len() == 1 => JobState::Expired,
        _ => JobState::Failed,
    };
    let message = format!("{place}: {}", error.message);
    (state, JobError { message, ..error })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use warmq_config::{Apps, Settings};
    use warmq_rules::Routes;
    use warmq_types::ids::JobId;
    use warmq_types::job::JobSpec;
    use warmq_types::unknown::UnknownFields;

    use super::*;

    const FILE: &str = r#"
        [apps."a/1"]
        [apps."a/2"]
        [apps."a/3"]
        [routes."r/sequence"]
        kind = "sequence"
        steps = [{ name = "one", app = "a/1" }, { name = "two", app = "a/2" }]
        [routes."r/fallback"]
        kind = "fallback"
        to = ["a/1", "a/2", "a/3"]
    "#;

    /// What follows for the route `name`, whose steps so far are `steps`, if the apps `alive` have
    /// runners.
    fn then(name: &str, steps: Vec<Step>, alive: &[&str]) -> NextAction {
        let mut settings = Settings::from_toml(FILE, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        let routes = settings.finish(Some(routes)).unwrap();
        let declared = routes.flow(&app(name)).unwrap();
        let flow = Flow {
            steps,
            ..Flow::new(declared.kind, 3)
        };
        let alive: BTreeSet<AppId> = alive.iter().map(|name| app(name)).collect();
        decide(declared, &flow, |app| alive.contains(app))
    }

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    /// The step `index` to `a/<index + 1>`, which ended in `state`.
    fn step(index: u32, state: JobState) -> Step {
        let to = app(&format!("a/{}", index + 1));
        Step {
            index,
            name: to.to_string(),
            app: to.clone(),
            to,
            route: Vec::new(),
            job: JobId::generate(),
            begun_ms: 1_000,
            until_ms: None,
            reason: None,
            given_up: None,
            end: Some(StepEnd {
                state,
                at_ms: 2_000,
                timings: None,
                error: (state == JobState::Failed).then(|| "no luck".to_owned()),
            }),
            unknown: UnknownFields::new(),
        }
    }

    fn begin(index: usize, reason: Option<&str>) -> NextAction {
        let reason = reason.map(str::to_owned);
        NextAction::Begin { index, reason }
    }

    #[test]
    fn a_sequence_goes_on_as_long_as_its_steps_succeed() {
        use JobState::*;
        let then = |steps| then("r/sequence", steps, &[]);
        assert_eq!(then(vec![]), begin(0, None));
        assert_eq!(then(vec![step(0, Succeeded)]), begin(1, None));
        assert_eq!(
            then(vec![step(0, Succeeded), step(1, Succeeded)]),
            NextAction::Succeed
        );
        for state in [Failed, Cancelled, Expired] {
            assert_eq!(then(vec![step(0, state)]), NextAction::Fail, "{state}");
        }
    }

    #[test]
    fn a_fallback_goes_on_until_a_step_succeeds_and_skips_targets_without_runners() {
        use JobState::*;
        let then = |steps, alive: &[&str]| then("r/fallback", steps, alive);
        assert_eq!(then(vec![], &["a/1", "a/2"]), begin(0, None));
        assert_eq!(
            then(vec![], &["a/3"]),
            begin(2, Some("a/1 has no runner; a/2 has no runner"))
        );
        // No target has runners: the first remaining one is chosen.
        assert_eq!(then(vec![], &[]), begin(0, None));
        assert_eq!(
            then(vec![step(0, Failed)], &["a/3"]),
            begin(2, Some("a/1 failed: no luck; a/2 has no runner"))
        );
        assert_eq!(
            then(vec![step(1, Failed)], &[]),
            begin(2, Some("a/2 failed: no luck"))
        );
        assert_eq!(then(vec![step(0, Succeeded)], &[]), NextAction::Succeed);
        for unwanted in [Cancelled, Expired] {
            assert_eq!(then(vec![step(0, unwanted)], &["a/2"]), NextAction::Fail);
        }
        assert_eq!(then(vec![step(2, Failed)], &["a/1"]), NextAction::Fail);
    }

    #[test]
    fn a_step_without_runners_is_given_up_if_another_target_has_some() {
        let given_up = |step: &Step, waits, alive: &[&str]| {
            let mut settings = Settings::from_toml(FILE, "warmq.toml");
            let apps = Apps::read(&mut settings);
            let routes = Routes::read(&mut settings, &apps);
            let declared = routes.flow(&app("r/fallback")).unwrap();
            give_up(declared, step, waits, 5_000, |app| {
                alive.contains(&app.as_str())
            })
        };
        let mut waiting = step(0, JobState::Queued);
        waiting.end = None;
        assert_eq!(given_up(&waiting, true, &["a/1", "a/2"]), None);
        assert_eq!(given_up(&waiting, true, &[]), None);
        assert_eq!(given_up(&waiting, false, &["a/2"]), None, "it runs");
        let lost = "its app lost its last runner";
        assert_eq!(given_up(&waiting, true, &["a/3"]).as_deref(), Some(lost));
        waiting.until_ms = Some(5_001);
        assert_eq!(given_up(&waiting, false, &["a/1"]), None);
        waiting.until_ms = Some(4_500);
        let late = "it did not end within 3.5 s";
        assert_eq!(given_up(&waiting, false, &["a/1"]).as_deref(), Some(late));
    }

    #[test]
    fn a_step_that_was_given_up_has_failed_unless_its_result_was_faster() {
        let spec = JobSpec::new(app("a/1"), json!({}));
        let mut record = serde_json::to_value(&spec).unwrap();
        record["attempt"] = 1.into();
        record["fence"] = 1.into();
        let record = |state: &str| {
            let mut record = record.clone();
            record["state"] = state.into();
            serde_json::from_value::<JobRecord>(record).unwrap()
        };
        let mut given_up = step(0, JobState::Failed);
        given_up.given_up = Some("it did not end within 1 s".to_owned());
        let end = end_of(&given_up, &record("cancelled"), 7);
        assert_eq!(
            (end.state, end.error),
            (JobState::Failed, given_up.given_up.clone())
        );
        assert_eq!(
            end_of(&given_up, &record("succeeded"), 7).state,
            JobState::Succeeded
        );
        let unwanted = step(0, JobState::Failed);
        assert_eq!(
            end_of(&unwanted, &record("cancelled"), 7).state,
            JobState::Cancelled
        );
    }
}
