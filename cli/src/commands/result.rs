//! `warmq result`

use std::path::Path;

use serde_json::Value;
use warmq_types::http::Job;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;
use warmq_types::text::escape;

use super::known_job;
use crate::client::{Client, pretty};
use crate::{exit, pictures, progress};

/// Prints a job's output.
pub(super) async fn run(client: &Client, id: JobId, save: Option<&Path>) -> anyhow::Result<u8> {
    let job = known_job(client, id).await?;
    print_result(client, &job, save).await
}

/// Prints the output of a job that succeeded, otherwise the reason why there is none.
pub(super) async fn print_result(
    client: &Client,
    job: &Job,
    save: Option<&Path>,
) -> anyhow::Result<u8> {
    let id = job.record.spec.id;
    if !job.record.state.is_terminal() {
        eprintln!("{}", progress::sentence(job));
        return Ok(exit::NOT_YET);
    }
    if job.record.state != JobState::Succeeded {
        eprintln!("job {id} {}", why(job));
        return Ok(exit::FAILED);
    }
    let output = job.record.output.clone().unwrap_or(Value::Null);
    println!("{}", pretty(&output));
    if let Some(folder) = save {
        let saved = pictures::save(client, id, &output, folder).await?;
        for path in &saved {
            eprintln!("saved {}", path.display());
        }
        if saved.is_empty() {
            eprintln!("nothing to save: the output contains no file of this router");
        }
    }
    Ok(exit::OK)
}

/// Formats why a job that ended has no output: `failed: width: 7 is not a multiple of 8`.
fn why(job: &Job) -> String {
    match (&job.record.error, job.record.state) {
        (Some(error), state) => format!(
            "{state}: {} ({})",
            escape(&error.message),
            escape(&error.error_type)
        ),
        (None, JobState::Cancelled) => "was cancelled".to_owned(),
        (None, JobState::Expired) => "expired: no runner started it in time".to_owned(),
        (None, state) => format!("{state}, without a recorded reason"),
    }
}
