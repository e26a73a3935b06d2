//! What a submitter gives, and what it gets for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use warmq_types::ids::JobId;
use warmq_types::job::{JobSpec, ReplyTo};

use crate::memory::HeldBytes;

/// A job as its submitter gave it, nothing checked.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// `owner/name` of an app or a route.
    pub app: String,
    /// What followed the app in the path.
    pub path: String,
    /// The input: JSON, or nothing at all for `{}`.
    pub body: Bytes,
    /// The memory that the body occupies.
    pub held: Option<HeldBytes>,
    /// How the body is encoded, if it is: `gzip`.
    pub content_encoding: Option<String>,
    /// The hint as given; empty is none.
    pub hint: Option<String>,
    /// `normal` or `low`, in any case; empty is `normal`.
    pub priority: Option<String>,
    /// How long the job may be held for a warm runner: `2.5` (seconds), `500ms`.
    pub max_warm_wait: Option<String>,
    /// How long after its acceptance the job may start at the latest: `30` (seconds), `500ms`.
    pub start_timeout: Option<String>,
    /// The same under the header's older name, which counts if the newer one is absent.
    pub request_timeout: Option<String>,
    /// `1`, `true` or `yes`: it is begun once at most, even if its runner is lost.
    pub no_retry: Option<String>,
    /// An id that the submitter chose, so that a repeated submission is known.
    pub id: Option<JobId>,
    /// The submitter's own name for the submission, for the same.
    pub idempotency_key: Option<String>,
    /// `0`: the input is shown to nobody and forgotten with the job's end, the output soon after.
    pub store_io: Option<String>,
    /// How long links to its files hold: `{"expiration_duration_seconds": 3600}`.
    pub lifecycle: Option<String>,
    /// The submission is refused if more jobs wait already.
    pub max_queue_length: Option<String>,
    /// Who wants the outcome by AMQP.
    pub reply_to: Option<ReplyTo>,
    /// Who wants the outcome by HTTP: a URL.
    pub webhook: Option<String>,
    /// The broker delivers it for a second time: the first may have become a job, which must not
    /// run twice.
    pub redelivered: bool,
    /// What routes may look at, besides the input: headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// A job that was accepted: it will run, whatever dies from here on.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What was recorded.
    pub job: JobSpec,
    /// Jobs in front of it.
    pub queue_position: u64,
}
