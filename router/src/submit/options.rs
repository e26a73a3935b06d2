//! What a submitter wishes of its job, besides the output; for a flow, what its steps inherit.

use std::time::Duration;

use serde_json::Value;
use warmq_config::{AppConfig, Seconds};
use warmq_types::hint::{Hint, HintSource};
use warmq_types::hint_path::HintPath;
use warmq_types::job::{JobSpec, MAX_ATTEMPTS, Priority};
use warmq_types::route::RouteKind;

use super::{Submission, SubmitError};
use crate::files::lifetime;

/// How long the record of a job that is not to be stored is kept after its end: time enough for a
/// client that polls, and for a reply or a webhook that is tried again.
const NO_STORE_RETENTION: Duration = Duration::from_secs(600);

/// JobOptions without mistakes.
#[derive(Debug, Clone, Default)]
pub(super) struct JobOptions {
    hint: Option<Hint>,
    priority: Priority,
    max_warm_wait_ms: Option<u64>,
    start_timeout_ms: Option<u64>,
    no_retry: bool,
    no_store: bool,
    links_s: Option<u64>,
}

impl JobOptions {
    /// Reads a submission's.
    ///
    /// # Errors
    /// One of them is none.
    pub(super) fn read(submission: &Submission) -> Result<Self, SubmitError> {
        let priority = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "" => Ok(Priority::default()),
            name => Priority::parse(name).ok_or_else(|| SubmitError::InvalidPriority(shown(text))),
        };
        let max_warm_wait = |text: &str| {
            text.parse::<Seconds>()
                .map_err(SubmitError::InvalidPatience)
        };
        Ok(Self {
            hint: match submission.hint.as_deref() {
                Some(text) => Hint::parse_optional(text)?,
                None => None,
            },
            priority: (submission.priority.as_deref().map(priority))
                .transpose()?
                .unwrap_or_default(),
            max_warm_wait_ms: (submission.max_warm_wait.as_deref().map(max_warm_wait))
                .transpose()?
                .map(Seconds::as_ms),
            start_timeout_ms: start_timeout_ms(submission)?,
            no_retry: match submission.no_retry.as_deref() {
                Some(text) => {
                    truth(text).ok_or_else(|| SubmitError::InvalidNoRetry(shown(text)))?
                }
                None => false,
            },
            no_store: match submission.store_io.as_deref() {
                None | Some("") => false,
                Some(text) => {
                    !truth(text).ok_or_else(|| SubmitError::InvalidStoreIo(shown(text)))?
                }
            },
            links_s: match submission.lifecycle.as_deref() {
                Some(text) => lifetime::seconds(text).map_err(SubmitError::InvalidLifecycle)?,
                None => None,
            },
        })
    }

    /// What the submitter of `flow` options of its step `index` (from 0), which is begun at
    /// `now_ms` (Unix ms). The hint is meant for whoever gets the flow's own input, and so is the
    /// time to start; other steps have the hints that their apps derive.
    pub(super) fn of_step(flow: &JobSpec, kind: RouteKind, index: u32, now_ms: u64) -> Self {
        let is_flows_own = index == 0 || kind == RouteKind::Fallback;
        let start_timeout_ms = flow.start_timeout_ms.filter(|_| is_flows_own);
        Self {
            hint: flow.hint.clone().filter(|_| is_flows_own),
            priority: flow.priority,
            max_warm_wait_ms: flow.max_warm_wait_ms,
            start_timeout_ms: start_timeout_ms.map(|within_ms| {
                let deadline_ms = flow.created_ms + within_ms;
                deadline_ms.saturating_sub(now_ms).max(1)
            }),
            no_retry: flow.max_attempts == 1,
            no_store: flow.no_store,
            links_s: flow.links_s,
        }
    }

    /// The job with these wishes, for an app with these settings. `hint_path`: the field of its
    /// input that names what the job will load. What the field names is the hint, whatever the
    /// submitter's header says: a runner that was chosen by another name would load this one all
    /// the same, and evict the other for it.
    ///
    /// # Errors
    /// What the field names is too long for a hint.
    pub(super) fn of(
        self,
        job: JobSpec,
        config: &AppConfig,
        hint_path: Option<&HintPath>,
    ) -> Result<JobSpec, SubmitError> {
        let (hint, hint_source) = sourced(self.hint, hint_path, &job.input)?;
        let retention = match self.no_store {
            true => config.retention.min(NO_STORE_RETENTION),
            false => config.retention,
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(JobSpec {
            hint,
            hint_source,
            priority: self.priority,
            max_warm_wait_ms: self.max_warm_wait_ms,
            start_timeout_ms: self.start_timeout_ms,
            run_timeout_ms: config.run_timeout.map(ms),
            max_attempts: match self.no_retry {
                true => 1,
                false => config.max_attempts,
            },
            retention_s: Some(retention.as_secs()),
            no_store: self.no_store,
            links_s: self.links_s,
            ..job
        })
    }

    /// The same of a flow, whose steps have their own apps' settings.
    ///
    /// # Errors
    /// None: a flow's input has no hint of its own.
    pub(super) fn of_flow(self, job: JobSpec) -> Result<JobSpec, SubmitError> {
        let settings = AppConfig {
            max_attempts: MAX_ATTEMPTS,
            ..AppConfig::default()
        };
        self.of(job, &settings, None)
    }
}

/// The hint of a job, and its source: the field of the input if it names something, else the
/// submitter's header.
fn sourced(
    header: Option<Hint>,
    path: Option<&HintPath>,
    input: &Value,
) -> Result<(Option<Hint>, Option<HintSource>), SubmitError> {
    if let Some(path) = path
        && let Some(named) = path
            .hint(input)
            .map_err(|problem| SubmitError::InvalidInputHint {
                path: path.clone(),
                problem,
            })?
    {
        let source = HintSource::Input {
            field: path.to_string(),
            overruled: header.filter(|header| *header != named),
        };
        return Ok((Some(named), Some(source)));
    }
    let source = header.is_some().then_some(HintSource::Header);
    Ok((header, source))
}

/// The time to start, ms: more than 0. The header's newer name counts if both are given.
fn start_timeout_ms(submission: &Submission) -> Result<Option<u64>, SubmitError> {
    let named = [
        ("x-fal-request-start-timeout", &submission.start_timeout),
        ("x-fal-request-timeout", &submission.request_timeout),
    ];
    let Some((header, text)) = named
        .into_iter()
        .find_map(|(header, text)| Some((header, text.as_deref()?)))
    else {
        return Ok(None);
    };
    let invalid = |problem| SubmitError::InvalidStartTimeout { header, problem };
    match text.parse::<Seconds>().map_err(invalid)?.as_ms() {
        0 => Err(invalid(
            "the time to start must be more than 0: nothing starts at once".to_owned(),
        )),
        ms => Ok(Some(ms)),
    }
}

/// A truth value as fal reads it, in any case; empty is false.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// The beginning of what somebody sent us, fit for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
