//! Options of a job besides its input.

use std::time::Duration;

use warmq_config::{AppConfig, DurationSetting};
use warmq_types::hint::{Hint, HintSource};
use warmq_types::hint_path::HintPath;
use warmq_types::job::{JobSpec, MAX_ATTEMPTS, Priority};

use super::{Submission, SubmitError};
use crate::files::lifetime;

/// Retention of a job that must not be stored: enough for a polling client, and for retries of a
/// reply or webhook.
const NO_STORE_RETENTION: Duration = Duration::from_secs(600);

/// Valid options.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobOptions {
    pub(crate) hint: Option<Hint>,
    pub(crate) priority: Priority,
    pub(crate) max_warm_wait_ms: Option<u64>,
    pub(crate) start_timeout_ms: Option<u64>,
    pub(crate) no_retry: bool,
    pub(crate) no_store: bool,
    pub(crate) links_s: Option<u64>,
}

impl JobOptions {
    /// Parses the options of a submission.
    pub(super) fn parse(submission: &Submission) -> Result<Self, SubmitError> {
        let priority = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "" => Ok(Priority::default()),
            name => {
                Priority::parse(name).ok_or_else(|| SubmitError::InvalidPriority(shortened(text)))
            }
        };
        let max_warm_wait = |text: &str| {
            text.parse::<DurationSetting>()
                .map_err(SubmitError::InvalidMaxWarmWait)
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
                    boolean(text).ok_or_else(|| SubmitError::InvalidNoRetry(shortened(text)))?
                }
                None => false,
            },
            no_store: match submission.store_io.as_deref() {
                None | Some("") => false,
                Some(text) => {
                    !boolean(text).ok_or_else(|| SubmitError::InvalidStoreIo(shortened(text)))?
                }
            },
            links_s: match submission.lifecycle.as_deref() {
                Some(text) => lifetime::seconds(text).map_err(SubmitError::InvalidLifecycle)?,
                None => None,
            },
        })
    }

    /// Returns the job with these options, for an app with these settings.
    pub(super) fn apply(self, job: JobSpec, config: &AppConfig) -> JobSpec {
        let retention = match self.no_store {
            true => config.retention.min(NO_STORE_RETENTION),
            false => config.retention,
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        JobSpec {
            hint_source: self.hint.is_some().then_some(HintSource::Header),
            hint: self.hint,
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
        }
    }

    /// Returns a flow with these options; its steps have their own apps' settings.
    pub(super) fn apply_to_flow(self, job: JobSpec) -> JobSpec {
        let settings = AppConfig {
            max_attempts: MAX_ATTEMPTS,
            ..AppConfig::default()
        };
        self.apply(job, &settings)
    }
}

/// Replaces the header's hint by the value of the input field `path`, if it has one: a runner
/// chosen by another hint would load the field's model anyway, and evict the other for it.
///
/// # Errors
/// The value is too long for a hint.
pub(super) fn use_input_hint(job: &mut JobSpec, path: &HintPath) -> Result<(), SubmitError> {
    let named = (path.hint(&job.input)).map_err(|problem| SubmitError::InvalidInputHint {
        path: path.clone(),
        problem,
    })?;
    if let Some(named) = named {
        job.hint_source = Some(HintSource::Input {
            field: path.to_string(),
            overruled: job.hint.take().filter(|header| *header != named),
        });
        job.hint = Some(named);
    }
    Ok(())
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
            "the start timeout must be greater than 0".to_owned(),
        )),
        ms => Ok(Some(ms)),
    }
}

/// Parses the number of waiting jobs from which the submitter wants a refusal.
pub(super) fn max_queue_length(submission: &Submission) -> Result<Option<u64>, SubmitError> {
    let Some(text) = submission.max_queue_length.as_deref() else {
        return Ok(None);
    };
    // The parameter allows this many waiting jobs; the bound refuses from the next one on.
    match text.parse::<u64>() {
        Ok(max_waiting) => Ok(Some(max_waiting.saturating_add(1))),
        Err(_) => Err(SubmitError::InvalidQueueLength(shortened(text))),
    }
}

/// Parses a boolean as fal does, in any case; empty is false.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// Shortens a submitted text for a message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
