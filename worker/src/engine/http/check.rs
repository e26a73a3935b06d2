//! Checks whether a server follows docs/runner-protocol.md, with the code that runs jobs.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use warmq_types::ids::AppId;
use warmq_types::job::{JobError, JobSpec};

use super::call::call;
use super::options::Options;
use super::server::Server;
use crate::engine::selection::ModelSelection;
use crate::engine::{Failure, Produced};

/// Time after which a job counts as running: the readiness is probed meanwhile.
const RUNNING_AFTER: Duration = Duration::from_millis(100);

/// A path that no server has.
const NO_ENDPOINT: &str = "warmq-check/no-such-endpoint";

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As the protocol has it.
    Passed,
    /// An optional part that the server does not have.
    Optional,
    /// Against the protocol.
    Failed,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Optional => "optional",
            Self::Failed => "FAILED",
        })
    }
}

/// The result of one check.
#[derive(Debug)]
pub struct Finding {
    /// Part of the protocol.
    pub part: &'static str,
    /// How it ended.
    pub grade: Grade,
    /// What was found, and the remedy.
    pub details: String,
}

/// Checks a server with a job of this input.
///
/// # Errors
/// The HTTP client cannot be created.
pub async fn check(options: Options, input: Value) -> Result<Vec<Finding>, String> {
    let server = Server::new(options, 1, ModelSelection::default())?;
    let mut findings = vec![readiness(&server).await];
    if findings
        .iter()
        .any(|finding| finding.grade == Grade::Failed)
    {
        return Ok(findings);
    }
    findings.extend([models(&server), inputs(&server)]);
    let mut events = 0_usize;
    let mut on_event = |_| events += 1;
    let app = AppId::parse("warmq/check").map_err(|error| error.to_string())?;
    let job = JobSpec::new(app, input);
    let (result, meanwhile) = {
        let mut run = std::pin::pin!(call(&server, &job, &mut on_event));
        match tokio::time::timeout(RUNNING_AFTER, &mut run).await {
            Ok(result) => (result, None),
            Err(_) => {
                let ((), result) = tokio::join!(server.probe(), &mut run);
                (result, Some(readiness_beside_a_job(&server)))
            }
        }
    };
    findings.push(job_finding(&result, events));
    findings.extend(meanwhile);
    findings.push(hints(&server));
    findings.push(unknown_endpoint(&server, &job).await);
    findings.push(cancellation(&server));
    Ok(findings)
}

async fn readiness(server: &Server) -> Finding {
    server.probe().await;
    let path = &server.options.health_path;
    let (grade, details) = match server.state().fault {
        None => (Grade::Passed, format!("ready, by GET /{path}")),
        Some(fault) => (Grade::Failed, fault.details),
    };
    finding("readiness", grade, details)
}

fn readiness_beside_a_job(server: &Server) -> Finding {
    let (grade, details) = match server.state().fault {
        None => (Grade::Passed, "ready while a job runs".to_owned()),
        Some(_) => (
            Grade::Optional,
            "silent while a job runs: one job at a time, --concurrency 1".to_owned(),
        ),
    };
    finding("concurrency", grade, details)
}

fn job_finding(result: &Result<Produced, Failure>, events: usize) -> Finding {
    let (grade, details) = match result {
        Ok(produced) => (
            Grade::Passed,
            format!(
                "a result with {} files and {events} events",
                produced.files.len()
            ),
        ),
        Err(Failure::Job(JobError {
            status, message, ..
        })) if *status < 500 => (
            Grade::Passed,
            format!("{status}, the job's error: {message} (--input has a valid job)"),
        ),
        Err(Failure::Job(JobError {
            status, message, ..
        })) => (Grade::Failed, format!("{status}: {message}")),
        Err(Failure::Runner(fault)) => (Grade::Failed, fault.details.clone()),
        Err(other) => (Grade::Failed, format!("{other:?}")),
    };
    finding("job", grade, details)
}

fn hints(server: &Server) -> Finding {
    let hints = server.state().report.hints;
    let names: Vec<&str> = hints.iter().map(|hint| hint.as_str()).collect();
    let (grade, details) = match (server.reports_hints(), names.as_slice()) {
        (false, _) => (
            Grade::Optional,
            "no x-fal-runner-hints: the runner reports the hint of the last job".to_owned(),
        ),
        (true, []) => (Grade::Passed, "nothing is loaded".to_owned()),
        (true, names) => (Grade::Passed, names.join(", ")),
    };
    finding("hints", grade, details)
}

fn models(server: &Server) -> Finding {
    let (grade, details) = match server.models() {
        Ok(names) if names.is_empty() => (
            Grade::Optional,
            "no GET /models: jobs with any hint arrive".to_owned(),
        ),
        Ok(names) => (Grade::Passed, names.join(", ")),
        Err(fault) => (Grade::Failed, fault.details),
    };
    finding("models", grade, details)
}

fn inputs(server: &Server) -> Finding {
    let (grade, details) = match server.input_schema() {
        Value::Object(schema) if !schema.is_empty() => (
            Grade::Passed,
            "checked before they arrive, by /openapi.json",
        ),
        _ => (
            Grade::Optional,
            "no /openapi.json with JSON bodies: inputs arrive unchecked",
        ),
    };
    finding("inputs", grade, details.to_owned())
}

async fn unknown_endpoint(server: &Server, job: &JobSpec) -> Finding {
    let job = JobSpec {
        path: NO_ENDPOINT.to_owned(),
        ..job.clone()
    };
    let (grade, details) = match call(server, &job, &mut |_| {}).await {
        Err(Failure::Job(error)) if error.status < 500 => (Grade::Passed, error.status.to_string()),
        Ok(_) => (
            Grade::Optional,
            format!("any path is an endpoint: /{NO_ENDPOINT} has a result, too"),
        ),
        Err(_) => (Grade::Failed, format!("/{NO_ENDPOINT} must respond 404")),
    };
    finding("unknown endpoint", grade, details)
}

fn cancellation(server: &Server) -> Finding {
    let (grade, details) = match server.offers_cancel() {
        true => (Grade::Passed, "POST /cancel/{id} is offered"),
        false => (
            Grade::Optional,
            "no x-warmq-cancel: a cancelled job's connection is closed",
        ),
    };
    finding("cancellation", grade, details.to_owned())
}

fn finding(part: &'static str, grade: Grade, details: String) -> Finding {
    Finding {
        part,
        grade,
        details,
    }
}
