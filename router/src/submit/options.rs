//! Options of a job besides its input; for a flow, the options that its steps inherit.

use std::time::Duration;

use serde_json::Value;
use warmq_config::{AppConfig, DurationSetting};
use warmq_types::hint::{Hint, HintSource};
use warmq_types::hint_path::HintPath;
use warmq_types::job::{JobSpec, MAX_ATTEMPTS, Priority};
use warmq_types::route::RouteKind;

use super::{Submission, SubmitError};
use crate::files::lifetime;

/// Retention of a job that must not be stored: enough for a polling client, and for retries of a
/// reply or webhook.
const NO_STORE_RETENTION: Duration = Duration::from_secs(600);

/// Valid options.
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
    /// Parses the options of a submission.
    ///
    /// # Errors
    /// An option is invalid.
    pub(super) fn read(submission: &Submission) -> Result<Self, SubmitError> {
        let priority = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "" => Ok(Priority::default()),
            name => Priority::parse(name).ok_or_else(|| SubmitError::InvalidPriority(shown(text))),
        };
        let max_warm_wait = |text: &str| {
            text.parse::<DurationSetting>()
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
                .map(DurationSetting::as_ms),
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

    /// Returns the options that step `index` (from 0) of `flow`, begun at `now_ms` (Unix ms),
    /// inherits. Hint and start timeout apply to the step that gets the flow's own input; other
    /// steps have the hints that their apps derive.
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

    /// Returns the job with these options, for an app with these settings. `hint_path`: the input
    /// field that names the model. The field takes precedence over the submitter's header: a runner
    /// chosen by another hint would load the field's model anyway, and evict the other for it.
    ///
    /// # Errors
    /// The field's value is too long for a hint.
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

    /// Returns a flow with these options; its steps have their own apps' settings.
    ///
    /// # Errors
    /// Never: a flow's input has no hint of its own.
    pub(super) fn of_flow(self, job: JobSpec) -> Result<JobSpec, SubmitError> {
        let settings = AppConfig {
            max_attempts: MAX_ATTEMPTS,
            ..AppConfig::default()
        };
        self.of(job, &settings, None)
    }
}

/// Returns a job's hint and its source: the input field if it has a value, otherwise the header.
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

/// Parses the start timeout, ms, greater than 0. The header's newer name takes precedence.
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
    match text.parse::<DurationSetting>().map_err(invalid)?.as_ms() {
        0 => Err(invalid(
            "the time to start must be more than 0: nothing starts at once".to_owned(),
        )),
        ms => Ok(Some(ms)),
    }
}

/// Parses a boolean as fal does, in any case; empty is false.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// Shortens and escapes a submitted text for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
