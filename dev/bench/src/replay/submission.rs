//! Open-loop submission: each job at its planned time, however slow the earlier responses are.

use std::time::Duration;

use futures::future::try_join_all;
use serde_json::json;
use tokio::time::Instant;
use warmq_cli::client::{Client, Submission};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};

use super::case::LOAD_S;
use crate::workload::Planned;

/// An accepted job.
#[derive(Debug, Clone, Copy)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// Delay of the request against the plan.
    pub late: Duration,
    /// Response time of the router.
    pub answered: Duration,
}

/// Submits `plan` by HTTP over persistent connections, and calls `submitted` for each accepted job.
/// Results are in order of arrival.
///
/// # Errors
/// The router rejects a job, or is unreachable.
pub async fn submit(
    client: &Client,
    app: &AppId,
    plan: &[Planned],
    begin: Instant,
    submitted: impl Fn(),
) -> anyhow::Result<Vec<Submitted>> {
    try_join_all(plan.iter().map(async |planned| {
        let submission = submission(app, planned)?;
        let at = begin + Duration::from_secs_f64(planned.at_s);
        tokio::time::sleep_until(at).await;
        let late = at.elapsed();
        let answer = client.submit(&submission).await?;
        submitted();
        Ok(Submitted {
            id: answer.request_id,
            late,
            answered: at.elapsed() - late,
        })
    }))
    .await
}

fn submission(app: &AppId, planned: &Planned) -> anyhow::Result<Submission> {
    let input = json!({
        "run_ms": (planned.run_s * 1000.0).round() as u64,
        "load_ms": (LOAD_S * 1000.0) as u64,
    });
    let hint = Hint::parse(&format!("m{}", planned.model))?;
    Ok(Submission::new(app.clone(), input).hint(hint))
}
