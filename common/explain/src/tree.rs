//! A job with the jobs of its steps, recursively.

use std::pin::Pin;

use serde::Serialize;
use warmq_types::flow::{Flow, Step};
use warmq_types::http::Job;
use warmq_types::job::JobRecord;
use warmq_types::route::RouteKind;

use super::text::{count, ended};
use crate::time::duration;

/// Maximum depth of nested flows, which is the routers' limit.
const MAX_DEPTH: usize = 8;

/// A tree under construction.
type Growth<'f, E> = Pin<Box<dyn Future<Output = Result<Tree, E>> + Send + 'f>>;

/// A job and, if it is a flow, the jobs of its started steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// The steps' jobs, in order; `None` if one was never submitted, or expired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub step_jobs: Vec<Option<Tree>>,
}

impl Tree {
    /// Collects the jobs of a job's steps. `fetch` returns the job of a step, `None` without one.
    ///
    /// # Errors
    /// The first error of `fetch`.
    pub async fn grow<F, Fut, E>(job: Job, fetch: F) -> Result<Self, E>
    where
        F: Fn(Step) -> Fut + Sync,
        Fut: Future<Output = Result<Option<Job>, E>> + Send,
        E: Send,
    {
        Self::grow_to(&fetch, job, MAX_DEPTH).await
    }

    fn grow_to<'f, F, Fut, E>(fetch: &'f F, job: Job, levels: usize) -> Growth<'f, E>
    where
        F: Fn(Step) -> Fut + Sync,
        Fut: Future<Output = Result<Option<Job>, E>> + Send + 'f,
        E: Send + 'f,
    {
        Box::pin(async move {
            let flow = job.record.flow.as_ref().filter(|_| levels > 0);
            let steps = flow.map_or_else(Vec::new, |flow| flow.steps.clone());
            let mut step_jobs = Vec::with_capacity(steps.len());
            for step in steps {
                step_jobs.push(match fetch(step).await? {
                    Some(job) => Some(Self::grow_to(fetch, job, levels - 1).await?),
                    None => None,
                });
            }
            Ok(Self { job, step_jobs })
        })
    }
}

/// Describes a flow's steps, each with the explanation of its job, indented. `story` explains a
/// job.
pub(super) fn steps(
    record: &JobRecord,
    flow: &Flow,
    jobs: &[Option<Tree>],
    story: impl Fn(&Tree) -> Vec<String>,
) -> Vec<String> {
    let declared = u64::from(flow.of);
    let mut lines = vec![match flow.kind {
        RouteKind::Fallback => format!(
            "It is a fallback over {}: the next one is tried when one fails.",
            count(declared, "choice", "choices")
        ),
        _ => format!("It is a sequence of {}.", count(declared, "step", "steps")),
    }];
    for (n, step) in flow.steps.iter().enumerate() {
        lines.push(begun(record, flow, step));
        let job = jobs.get(n).and_then(Option::as_ref);
        if let Some(tree) = job {
            lines.extend(story(tree).iter().map(|line| format!("  {line}")));
        }
        lines.extend(ending(step, job.is_some()));
    }
    lines
}

/// Formats `Step draw (1 of 3) was begun 2 ms after the submission: acme/draw.`
fn begun(record: &JobRecord, flow: &Flow, step: &Step) -> String {
    let after = duration(step.begun_ms.saturating_sub(record.spec.created_ms));
    let name = match flow.kind {
        RouteKind::Fallback => "Choice".to_owned(),
        _ => format!("Step {}", step.name),
    };
    let because = step.reason.as_ref();
    let because = because.map_or_else(String::new, |reason| format!(", since {reason}"));
    let sentence = format!(
        "{name} ({} of {}) was begun {after} after the submission: {}{because}",
        step.index + 1,
        flow.of,
        step.to,
    );
    ended(&sentence)
}

/// Describes the end of a step beyond its job: that it was given up, or never had a job.
fn ending(step: &Step, has_job: bool) -> Option<String> {
    match (&step.given_up, &step.end) {
        (Some(reason), _) => Some(ended(&format!("It was given up: {reason}"))),
        (None, Some(end)) if !has_job => {
            let error = end.error.as_ref()?;
            Some(ended(&format!("It failed: {error}")))
        }
        _ => None,
    }
}

/// Describes the progress of a flow that has not ended.
pub(super) fn under_way(flow: &Flow) -> String {
    match flow.steps.last() {
        None => "It has not begun.".to_owned(),
        Some(step) => format!(
            "{} ({} of {}) is under way.",
            step.name,
            step.index + 1,
            flow.of
        ),
    }
}
