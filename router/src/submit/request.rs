//! Parses a submission.

use warmq_types::ids::{AppId, IdempotencyKey, JobId};
use warmq_types::job::JobSpec;
use warmq_types::traceparent::TRACEPARENT;

use super::options::{JobOptions, max_queue_length};
use super::{Draft, Submission, SubmitError, input};
use crate::access::Caller;

/// A parsed submission, whose target is not resolved yet.
pub(super) struct Request {
    /// The job; its app is the name that was submitted to.
    pub(super) draft: Draft,
    pub(super) key: Option<IdempotencyKey>,
    /// The submitter chose the job's id.
    pub(super) has_own_id: bool,
    /// Number of waiting jobs from which the submitter wants a refusal.
    pub(super) max_queue_length: Option<u64>,
    /// Number of jobs that the caller may have.
    pub(super) max_jobs: Option<u64>,
    /// The job may have been accepted before, and must not run again if it ended.
    pub(super) redelivered: bool,
}

impl Request {
    /// Parses a submission of `caller` to the app or route `name`.
    pub(super) fn parse(
        name: AppId,
        caller: &Caller,
        submission: Submission,
    ) -> Result<Self, SubmitError> {
        input::check_encoding(submission.content_encoding.as_deref())?;
        let key = (submission.idempotency_key.as_deref())
            .map(|text| IdempotencyKey::parse(text).map_err(SubmitError::InvalidKey))
            .transpose()?;
        let options = JobOptions::parse(&submission)?;
        let max_queue_length = max_queue_length(&submission)?;
        // A position that is not valid counts as absent (W3C Trace Context, 2.2).
        let trace = submission.headers.get(TRACEPARENT);
        let job = JobSpec {
            id: submission.id.unwrap_or_else(JobId::generate),
            path: submission.path,
            owner: caller.owner().cloned(),
            reply_to: submission.reply_to,
            webhook: submission.webhook,
            trace: trace.and_then(|text| text.parse().ok()),
            ..JobSpec::new(name, input::parse(&submission.body)?)
        };
        Ok(Self {
            draft: Draft {
                job,
                options,
                headers: submission.headers,
            },
            key,
            has_own_id: submission.id.is_some(),
            max_queue_length,
            max_jobs: caller.limits().max_jobs,
            redelivered: submission.redelivered,
        })
    }
}
