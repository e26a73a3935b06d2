//! Errors of a submission, with the submitter's response.

use std::time::Duration;

use warmq_broker::PublishError;
use warmq_types::access::Rate;
use warmq_types::hint::{Hint, InvalidHint};
use warmq_types::hint_path::HintPath;
use warmq_types::ids::{AppId, InvalidName, KeyId};
use warmq_types::job::{FieldError, JobError};
use warmq_types::text::shortened;

use super::input;
use crate::access::Denied;

/// Length limit of a list in a sentence, bytes.
const MAX_LIST_BYTES: usize = 400;

/// Why a submission was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error(transparent)]
    InvalidApp(#[from] InvalidName),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(
        "key '{key}' exceeds its rate of {rate}; try again in {} s",
        in_seconds(wait)
    )]
    TooOften {
        key: KeyId,
        rate: Rate,
        wait: Duration,
    },
    #[error("the key has reached its limit of {0} unfinished jobs; try again when one has ended")]
    TooManyJobs(u64),
    #[error(
        "app '{0}' does not exist: start a worker for it (warmq-worker --app {0}) or declare it in warmq.toml"
    )]
    UnknownApp(AppId),
    #[error(transparent)]
    Route(#[from] warmq_rules::Error),
    #[error("the body is not JSON: {0}")]
    MalformedJson(serde_json::Error),
    #[error("the body is a form: send the input as JSON with content-type application/json")]
    Form,
    #[error("content-encoding '{0}' is not supported: send the body uncompressed")]
    Encoded(String),
    /// The body is nested deeper than [`input::MAX_DEPTH`].
    #[error("the input has more than {} levels of nesting", input::MAX_DEPTH)]
    TooDeep,
    #[error("the input is invalid")]
    InvalidInput(Vec<FieldError>),
    #[error(
        "the body has {bytes} bytes, more than the limit of {max_bytes} (--max-body): upload large files \
         (POST /storage/upload/initiate) and send their URLs"
    )]
    TooLarge { bytes: usize, max_bytes: usize },
    /// A step's input exceeds the limit.
    #[error("the step's input has {bytes} bytes, more than the limit of {max_bytes} (--max-body)")]
    StepTooLarge { bytes: usize, max_bytes: usize },
    /// The header's hint is too long.
    #[error(transparent)]
    InvalidHint(#[from] InvalidHint),
    /// The input field that is the hint is too long.
    #[error("{problem}")]
    InvalidInputHint {
        path: HintPath,
        problem: InvalidHint,
    },
    /// No runner lists the model.
    #[error(
        "no runner lists the model '{model}'; known models: {}",
        shortened(known.join(", "), MAX_LIST_BYTES)
    )]
    UnknownModel {
        model: Hint,
        /// The input field that names it; `None` for the header.
        field: Option<HintPath>,
        known: Vec<String>,
    },
    #[error("priority must be 'normal' or 'low', not '{0}'")]
    InvalidPriority(String),
    #[error("{0}")]
    InvalidMaxWarmWait(String),
    #[error("{problem}")]
    InvalidStartTimeout {
        header: &'static str,
        problem: String,
    },
    #[error("{0}")]
    InvalidKey(InvalidName),
    #[error("store-io must be a boolean (1, true, yes, 0, false, no), not '{0}'")]
    InvalidStoreIo(String),
    #[error("{0}")]
    InvalidLifecycle(String),
    #[error("fal_max_queue_length must be an integer of at least 0, not '{0}'")]
    InvalidQueueLength(String),
    #[error(
        "the queue of app '{app}' is full ({waiting} of at most {bound} jobs); try again later"
    )]
    QueueFull {
        app: AppId,
        waiting: u64,
        bound: u64,
    },
    #[error("invalid webhook URL: {0}")]
    InvalidWebhook(warmq_fetch::Error),
    #[error("no-retry must be a boolean (1, true, yes, 0, false, no), not '{0}'")]
    InvalidNoRetry(String),
    /// Redis failed.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ failed, is blocked by an alarm, or never accepts such a message.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The storage for large inputs failed.
    #[error(transparent)]
    Storage(#[from] warmq_objects::Error),
    #[error(transparent)]
    Message(#[from] warmq_types::message::Error),
}

impl SubmitError {
    /// Returns whether the same submission may be accepted later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Store(error) => !error.is_damage(),
            Self::Publish(error) => !error.is_unacceptable(),
            Self::Storage(_) => true,
            _ => false,
        }
    }

    /// Returns after how many seconds the same submission may be accepted, if known.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooOften { wait, .. } => Some(in_seconds(wait)),
            _ => None,
        }
    }

    /// Returns the response: status and body.
    pub(crate) fn to_job_error(&self) -> JobError {
        let field = |kind: &str, name: &str, error_type: &str| {
            JobError::fields(vec![FieldError {
                loc: vec![kind.into(), name.into()],
                msg: self.to_string(),
                error_type: error_type.to_owned(),
            }])
        };
        let header = |name: &str, error_type: &str| field("header", name, error_type);
        let query = |name: &str, error_type: &str| field("query", name, error_type);
        let plain = |status: u16, error_type: &str| JobError {
            status,
            error_type: error_type.to_owned(),
            message: self.to_string(),
            detail: Vec::new(),
        };
        match self {
            Self::InvalidApp(_) => field("path", "app", "invalid_app"),
            Self::Route(_) => JobError::field(&[], "route", self.to_string()),
            Self::UnknownApp(_) => plain(404, "not_found"),
            Self::Denied(_) => plain(403, "forbidden"),
            Self::TooOften { .. } => plain(429, "rate_limited"),
            Self::TooManyJobs(_) => plain(429, "too_many_jobs"),
            Self::MalformedJson(_) | Self::Form | Self::TooDeep => plain(400, "bad_request"),
            Self::Encoded(_) => plain(415, "unsupported_media_type"),
            Self::InvalidInput(detail) => JobError::fields(detail.clone()),
            Self::StepTooLarge { .. } | Self::TooLarge { .. } => plain(413, "payload_too_large"),
            Self::Publish(error) if error.is_unacceptable() => plain(413, "payload_too_large"),
            Self::InvalidInputHint { path, .. } => {
                let fields: Vec<&str> = path.fields().iter().map(String::as_str).collect();
                JobError::field(&fields, "invalid_hint", self.to_string())
            }
            Self::UnknownModel {
                field: Some(path), ..
            } => {
                let fields: Vec<&str> = path.fields().iter().map(String::as_str).collect();
                JobError::field(&fields, "model_not_found", self.to_string())
            }
            Self::UnknownModel { field: None, .. } => {
                header("x-fal-runner-hint", "model_not_found")
            }
            Self::InvalidHint(_) => header("x-fal-runner-hint", "invalid_hint"),
            Self::InvalidPriority(_) => header("x-fal-queue-priority", "invalid_priority"),
            Self::InvalidMaxWarmWait(_) => header("x-max-warm-wait", "invalid_max_warm_wait"),
            Self::InvalidStartTimeout { header: name, .. } => {
                header(name, "invalid_request_timeout")
            }
            Self::InvalidKey(_) => header("idempotency-key", "invalid_idempotency_key"),
            Self::InvalidStoreIo(_) => header("x-fal-store-io", "invalid_store_io"),
            Self::InvalidLifecycle(_) => header(
                "x-fal-object-lifecycle-preference",
                "invalid_object_lifecycle",
            ),
            Self::InvalidQueueLength(_) => {
                query("fal_max_queue_length", "invalid_max_queue_length")
            }
            Self::InvalidWebhook(_) => query("fal_webhook", "invalid_webhook"),
            Self::QueueFull { .. } => plain(429, "queue_full"),
            Self::InvalidNoRetry(_) => header("x-fal-no-retry", "invalid_no_retry"),
            Self::Store(error) if error.is_damage() => JobError {
                message: "the job's record is damaged: see the router's log".to_owned(),
                ..plain(500, "internal_error")
            },
            Self::Store(_) | Self::Publish(_) | Self::Storage(_) => JobError {
                message: "jobs cannot be accepted at the moment; try again soon".to_owned(),
                ..plain(503, "runner_scheduling_failure")
            },
            Self::Message(_) => plain(500, "internal_error"),
        }
    }
}

/// Rounds up, since `Retry-After` has whole seconds and a retry must not be early.
fn in_seconds(wait: &Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}
