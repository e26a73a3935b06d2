//! A submission as received, and the response to an accepted one.

use std::collections::BTreeMap;

use bytes::Bytes;
use warmq_types::ids::JobId;
use warmq_types::job::{JobSpec, ReplyTo};

use crate::memory::HeldBytes;

/// An unchecked submission.
#[derive(Debug, Clone, Default)]
pub(crate) struct Submission {
    /// `owner/name` of an app or a route.
    pub(crate) app: String,
    /// Rest of the path after the app.
    pub(crate) path: String,
    /// The input: JSON, or an empty body for `{}`.
    pub(crate) body: Bytes,
    /// Memory permit of the body.
    pub(crate) held: Option<HeldBytes>,
    /// Content encoding of the body, such as `gzip`.
    pub(crate) content_encoding: Option<String>,
    /// The hint; empty for none.
    pub(crate) hint: Option<String>,
    /// `normal` or `low`, in any case; empty for `normal`.
    pub(crate) priority: Option<String>,
    /// Maximum hold for a warm runner: `2.5` (seconds), `500ms`.
    pub(crate) max_warm_wait: Option<String>,
    /// How long after its acceptance the job may start at the latest: `30` (seconds), `500ms`.
    pub(crate) start_timeout: Option<String>,
    /// The same under the header's older name, used if the newer one is absent.
    pub(crate) request_timeout: Option<String>,
    /// `1`, `true` or `yes`: at most one attempt, even if its runner is lost.
    pub(crate) no_retry: Option<String>,
    /// Id chosen by the submitter, for idempotent submission.
    pub(crate) id: Option<JobId>,
    /// Idempotency key chosen by the submitter.
    pub(crate) idempotency_key: Option<String>,
    /// `0`: the input is never shown and is deleted with the job's end, the output soon after.
    pub(crate) store_io: Option<String>,
    /// Lifetime of the URLs of its files: `{"expiration_duration_seconds": 3600}`.
    pub(crate) lifecycle: Option<String>,
    /// Refuse the submission if more jobs wait already.
    pub(crate) max_queue_length: Option<String>,
    /// Reply queue for the result.
    pub(crate) reply_to: Option<ReplyTo>,
    /// Webhook URL for the result.
    pub(crate) webhook: Option<String>,
    /// The broker redelivered it: the first delivery may have become a job, which must not run
    /// twice.
    pub(crate) redelivered: bool,
    /// Headers that routes may read, by lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
}

/// An accepted job.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// The job as recorded.
    pub(crate) job: JobSpec,
    /// Number of jobs in front of it.
    pub(crate) queue_position: u64,
}
