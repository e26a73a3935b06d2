//! `warmq jobs`

use warmq_types::http::Jobs;
use warmq_types::job::JobSummary;
use warmq_types::table::Table;
use warmq_types::text::shortened;
use warmq_types::tier::Tier;

use crate::args::JobsArgs;
use crate::client::{Client, JobQuery, pretty};
use crate::{exit, time};

/// Maximum number of jobs that a router returns at once.
const MAX_PAGE: usize = 200;

/// Maximum length of a failure in the table, bytes.
const MAX_FAILURE_BYTES: usize = 60;

/// Lists jobs, newest first.
pub(super) async fn run(client: &Client, args: JobsArgs, json: bool) -> anyhow::Result<u8> {
    let Jobs { jobs, next } = list(client, args).await?;
    if json {
        println!("{}", pretty(&jobs));
        return Ok(exit::OK);
    }
    if jobs.is_empty() {
        println!("no jobs");
    } else {
        println!("{}", table(&jobs, time::now_ms()));
    }
    if let Some(next) = next {
        eprintln!("older jobs: --before {next}");
    }
    Ok(exit::OK)
}

/// Reads as many pages as the requested number of jobs needs.
async fn list(client: &Client, args: JobsArgs) -> anyhow::Result<Jobs> {
    let mut query = JobQuery {
        states: args.states,
        app: args.app,
        hint: args.hint,
        owner: args.owner,
        before: args.before,
        limit: None,
    };
    let mut jobs = Vec::new();
    loop {
        query.limit = Some((args.limit - jobs.len()).min(MAX_PAGE));
        let page = client.jobs(&query).await?;
        jobs.extend(page.jobs);
        match page.next {
            Some(next) if jobs.len() < args.limit => query.before = Some(next.to_string()),
            next => return Ok(Jobs { jobs, next }),
        }
    }
}

fn table(jobs: &[JobSummary], now_ms: u64) -> Table {
    let header = [
        "ID", "STATE", "APP", "HINT", "RUNNER", "MODEL", "AGE", "WAITED", "RAN", "FAILURE",
    ];
    let mut table = Table::new(header).right([6, 7, 8]);
    let none = || "-".to_owned();
    for job in jobs {
        let failure = match (&job.error, job.flow) {
            (Some(error), _) => shortened(error.message.clone(), MAX_FAILURE_BYTES),
            (None, Some(flow)) if !job.state.is_terminal() => {
                format!("step {} of {}", flow.step, flow.of)
            }
            _ => String::new(),
        };
        table.row([
            job.id.to_string(),
            job.state.to_string(),
            job.app.to_string(),
            (job.hint.as_ref()).map_or_else(none, |hint| hint.to_string()),
            (job.runner.as_ref()).map_or_else(none, |runner| runner.to_string()),
            model(job).to_owned(),
            time::duration(now_ms.saturating_sub(job.created_ms)),
            job.waited_ms(now_ms).map_or_else(none, time::duration),
            job.ran_ms(now_ms).map_or_else(none, time::duration),
            failure,
        ]);
    }
    table
}

/// Names where a job found its model.
fn model(job: &JobSummary) -> &'static str {
    match job.timings.map(|timings| timings.tier()) {
        Some(Tier::Device) => "warm",
        Some(Tier::Ram) => "RAM",
        Some(Tier::Disk) => "cold",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use warmq_types::job::Timings;
    use warmq_types::state::JobState;

    /// A job of a fixed id that waits since 1000 ms.
    fn job() -> JobSummary {
        let job = json!({
            "id": "01a20246-c1ed-705f-a519-4e83f0a3d2c9", "app": "warmq/diffusion", "state": "queued",
            "hint": "shapes", "priority": "normal", "attempt": 0, "created_ms": 1000
        });
        serde_json::from_value(job).unwrap()
    }

    fn line(job: JobSummary) -> String {
        let text = table(&[job], 4_000).to_string();
        let line = text
            .lines()
            .nth(1)
            .unwrap()
            .replace("01a20246-c1ed-705f-a519-4e83f0a3d2c9", "ID");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_job_is_one_line() {
        let waiting = line(job());
        assert_eq!(
            waiting,
            "ID queued warmq/diffusion shapes - - 3.0 s 3.0 s -"
        );
        let running = JobSummary {
            state: JobState::Running,
            started_ms: Some(1_500),
            runner: Some("gpu-a".parse().unwrap()),
            ..job()
        };
        let expected = "ID running warmq/diffusion shapes gpu-a - 3.0 s 500 ms 2.5 s";
        assert_eq!(line(running.clone()), expected);
        let failed = JobSummary {
            state: JobState::Failed,
            finished_ms: Some(2_500),
            timings: Some(Timings::default()),
            error: serde_json::from_value(
                json!({"status": 500, "error_type": "x", "message": "bad\nluck"}),
            )
            .unwrap(),
            ..running
        };
        let expected = "ID failed warmq/diffusion shapes gpu-a cold 3.0 s 500 ms 1.0 s bad\\nluck";
        assert_eq!(line(failed), expected);
    }
}
