//! A job with the jobs of its steps, and of theirs: all that a flow led to.

use serde::Serialize;
use warmq_types::flow::{Flow, Step};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::route::RouteKind;

use super::text::{count, ended};
use crate::client::{Client, JobView};
use crate::time::duration;

/// How deep flows in flows are followed: routers let none be deeper.
const MAX_DEPTH: usize = 8;

/// A job and, if it is a flow, the jobs of the steps that were begun.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
    /// Those of its steps, in order; none where one was never submitted, or is kept no longer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub step_jobs: Vec<Option<Tree>>,
}

impl Tree {
    /// Asks the router for the jobs of a job's steps.
    ///
    /// # Errors
    /// The router is away.
    pub async fn grow(client: &Client, job: JobView) -> anyhow::Result<Self> {
        Self::grow_to(client, job, MAX_DEPTH).await
    }

    async fn grow_to(client: &Client, job: JobView, levels: usize) -> anyhow::Result<Self> {
        let flow = job.record.flow.as_ref().filter(|_| levels > 0);
        let ids: Vec<JobId> = flow.map_or_else(Vec::new, |flow| {
            flow.steps.iter().map(|step| step.job).collect()
        });
        let mut step_jobs = Vec::new();
        for id in ids {
            step_jobs.push(match client.job(id).await? {
                Some(job) => Some(Box::pin(Self::grow_to(client, job, levels - 1)).await?),
                None => None,
            });
        }
        Ok(Self { job, step_jobs })
    }
}

/// What a flow's steps came to, each with the story of its job, further in. `story`: tells that of a tree.
pub(super) fn steps(
    record: &JobRecord,
    flow: &Flow,
    jobs: &[Option<Tree>],
    story: impl Fn(&Tree) -> Vec<String>,
) -> Vec<String> {
    let declared = u64::from(flow.of);
    let mut lines = vec![match flow.kind {
        RouteKind::Fallback => format!(
            "It is a fallback over {}: the next is tried when one comes to nothing.",
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
        lines.extend(came_to(step, job.is_some()));
    }
    lines
}

/// `Step draw (1 of 3) was begun 2 ms after the submission: acme/draw.`
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

/// What is to be said of a step beside its job's story: that it was given up, or never had a job.
fn came_to(step: &Step, has_job: bool) -> Option<String> {
    match (&step.given_up, &step.end) {
        (Some(reason), _) => Some(ended(&format!("It was given up: {reason}"))),
        (None, Some(end)) if !has_job => {
            let error = end.error.as_ref()?;
            Some(ended(&format!("It came to nothing: {error}")))
        }
        _ => None,
    }
}

/// How far a flow is that has not ended.
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
