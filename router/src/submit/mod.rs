//! The one door for jobs, whichever way they come: check, follow routes, derive the hint, record, publish.

mod allowance;
pub mod amqp;
mod destination;
mod input;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use warmq_common::access::Rate;
use warmq_common::amqp::{Message, PublishError, Publisher, Topology};
use warmq_common::config::Seconds;
use warmq_common::hint::{Hint, InvalidHint};
use warmq_common::ids::{AppId, IdempotencyKey, InvalidName, JobId, KeyId};
use warmq_common::job::{FieldError, JobError, JobSpec, Priority, ReplyTo};
use warmq_common::message::{JobMessage, Versioned};
use warmq_common::state::JobState;
use warmq_common::store::{Created, Store, Terms};
use warmq_fetch::Fetcher;

use crate::access::{Caller, Denied};
use crate::apps::AppDirectory;
use crate::ending::Endings;
use crate::files::{Links, lifetime, now_s};
use destination::{Destination, Identity};

/// How often a job is published before its submitter hears that RabbitMQ is away.
const PUBLISH_ATTEMPTS: u32 = 2;

/// How long the record of a job that is not to be stored is kept after its end: time enough for a client that polls, and for
/// a reply or a webhook that is tried again.
const NO_STORE_RETENTION: Duration = Duration::from_secs(600);

/// A job as its submitter gave it, nothing checked.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// `owner/name` of an app or a route.
    pub app: String,
    /// What followed the app in the path.
    pub path: String,
    /// The input: JSON, or nothing at all for `{}`.
    pub body: Vec<u8>,
    /// The hint as given; empty is none.
    pub hint: Option<String>,
    /// `normal` or `low`.
    pub priority: Option<String>,
    /// How long the job may be held for a warm runner: `2.5` (seconds), `500ms`.
    pub max_warm_wait: Option<String>,
    /// How long after its acceptance the job may start at the latest: `30` (seconds), `500ms`.
    pub start_timeout: Option<String>,
    /// `1` or `true`: it is begun once at most, even if its runner is lost.
    pub no_retry: Option<String>,
    /// An id that the submitter chose, so that a repeated submission is known.
    pub id: Option<JobId>,
    /// The submitter's own name for the submission, for the same.
    pub idempotency_key: Option<String>,
    /// `0`: the input is shown to nobody and forgotten with the job's end, the output soon after.
    pub store_io: Option<String>,
    /// How long links to its files hold: `{"expiration_duration_seconds": 3600}`.
    pub lifecycle: Option<String>,
    /// The submitter wants to hear at once if that many jobs wait already.
    pub max_queue_length: Option<String>,
    /// Who wants the outcome by AMQP.
    pub reply_to: Option<ReplyTo>,
    /// Who wants the outcome by HTTP: a URL.
    pub webhook: Option<String>,
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

/// Why a submission was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The app's name breaks the grammar.
    #[error(transparent)]
    InvalidApp(#[from] InvalidName),
    /// The caller's key does not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The caller's key submits too often.
    #[error(
        "the key '{key}' may submit {rate}; try again in {} s",
        in_seconds(wait)
    )]
    TooOften {
        /// The key.
        key: KeyId,
        /// What is allowed.
        rate: Rate,
        /// After how long the next submission is.
        wait: Duration,
    },
    /// As many jobs of the caller's key wait or run as it may have.
    #[error(
        "this key's jobs that wait or run are as many as they may be ({0}); try again when one has ended"
    )]
    TooManyJobs(u64),
    /// Nobody serves that app.
    #[error(
        "there is no app '{0}': start a worker for it (warmq-worker --app {0}) or name it in warmq.toml"
    )]
    UnknownApp(AppId),
    /// A route can not say where it goes.
    #[error(transparent)]
    Route(#[from] warmq_routes::Error),
    /// The body is no JSON.
    #[error("the body is not JSON: {0}")]
    MalformedJson(serde_json::Error),
    /// The body is nested deeper than [`input::DEEPEST`].
    #[error("the input is nested more than {} levels deep", input::DEEPEST)]
    TooDeep,
    /// The input is not what the app takes.
    #[error("the input is invalid")]
    InvalidInput(Vec<FieldError>),
    /// The hint is too long.
    #[error(transparent)]
    InvalidHint(#[from] InvalidHint),
    /// The priority is neither `normal` nor `low`.
    #[error("the priority is 'normal' or 'low', not '{0}'")]
    InvalidPriority(String),
    /// The patience is no time.
    #[error("{0}")]
    InvalidPatience(String),
    /// The time to start is no time, or none at all.
    #[error("{0}")]
    InvalidStartTimeout(String),
    /// The idempotency key is empty, too long or not printable.
    #[error("{0}")]
    InvalidKey(InvalidName),
    /// Whether to store is neither `0` nor `1`.
    #[error("whether input and output are stored is '0' or '1', not '{0}'")]
    InvalidStoreIo(String),
    /// How long links hold is no such JSON.
    #[error("{0}")]
    InvalidLifecycle(String),
    /// The longest queue is no number.
    #[error("the longest queue is a number of jobs, 0 or more, not '{0}'")]
    InvalidQueueLength(String),
    /// As many jobs wait as the app or the submitter allows.
    #[error("the queue of {app} is full ({waiting} waiting, {bound} allowed); try again later")]
    QueueFull {
        /// The app.
        app: AppId,
        /// Jobs that wait.
        waiting: u64,
        /// The app's bound, or the submitter's if that is less.
        bound: u64,
    },
    /// The webhook can not be reached from here, whatever happens.
    #[error("the webhook can not be told: {0}")]
    InvalidWebhook(warmq_fetch::Error),
    /// It is neither wanted nor not wanted to be tried again.
    #[error("no-retry is '1' or 'true', '0' or 'false', not '{0}'")]
    InvalidNoRetry(String),
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] warmq_common::store::Error),
    /// RabbitMQ is away, or stalled by an alarm.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The job can not be written as a message.
    #[error(transparent)]
    Message(#[from] warmq_common::message::Error),
}

impl SubmitError {
    /// It is not the submission's fault: the same may be accepted later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Publish(_))
    }

    /// After how many seconds the same will be accepted, if that is known.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooOften { wait, .. } => Some(in_seconds(wait)),
            _ => None,
        }
    }

    /// What the submitter is told: status and body.
    pub fn to_job_error(&self) -> JobError {
        let place = |kind: &str, name: &str, error_type: &str| {
            JobError::fields(vec![FieldError {
                loc: vec![kind.into(), name.into()],
                msg: self.to_string(),
                error_type: error_type.to_owned(),
            }])
        };
        let header = |name: &str, error_type: &str| place("header", name, error_type);
        let query = |name: &str, error_type: &str| place("query", name, error_type);
        let plain = |status: u16, error_type: &str| JobError {
            status,
            error_type: error_type.to_owned(),
            message: self.to_string(),
            detail: Vec::new(),
        };
        match self {
            Self::InvalidApp(_) => JobError::fields(vec![FieldError {
                loc: vec!["path".into(), "app".into()],
                msg: self.to_string(),
                error_type: "invalid_app".to_owned(),
            }]),
            Self::Route(_) => JobError::field(&[], "route", self.to_string()),
            Self::UnknownApp(_) => plain(404, "not_found"),
            Self::Denied(_) => plain(403, "forbidden"),
            Self::TooOften { .. } => plain(429, "rate_limited"),
            Self::TooManyJobs(_) => plain(429, "too_many_jobs"),
            Self::MalformedJson(_) | Self::TooDeep => plain(400, "bad_request"),
            Self::InvalidInput(detail) => JobError::fields(detail.clone()),
            Self::InvalidHint(_) => header("x-fal-runner-hint", "invalid_hint"),
            Self::InvalidPriority(_) => header("x-fal-queue-priority", "invalid_priority"),
            Self::InvalidPatience(_) => header("x-max-warm-wait", "invalid_max_warm_wait"),
            Self::InvalidStartTimeout(_) => {
                header("x-fal-request-timeout", "invalid_request_timeout")
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
            Self::Store(_) | Self::Publish(_) => JobError {
                message: "the queue can not take jobs right now; try again soon".to_owned(),
                ..plain(503, "runner_scheduling_failure")
            },
            Self::Message(_) => plain(500, "internal_error"),
        }
    }
}

/// A submission without mistakes: the job as it would be new, and on what terms.
struct Checked {
    job: JobSpec,
    key: Option<IdempotencyKey>,
    max_queue_length: Option<u64>,
    /// How many jobs its owner may have.
    max_jobs: Option<u64>,
}

/// A cheap handle on the door.
#[derive(Clone)]
pub struct Submitter {
    store: Store,
    publisher: Publisher,
    topology: Topology,
    apps: AppDirectory,
    endings: Endings,
    links: Links,
    fetcher: Fetcher,
    declared: Arc<Mutex<HashSet<AppId>>>,
}

impl Submitter {
    /// The door into the given servers. `fetcher`: what webhooks may reach.
    pub fn new(
        store: Store,
        publisher: Publisher,
        topology: Topology,
        apps: AppDirectory,
        links: Links,
        fetcher: Fetcher,
    ) -> Self {
        Self {
            endings: Endings::new(store.clone(), publisher.clone(), topology.clone()),
            store,
            publisher,
            topology,
            apps,
            links,
            fetcher,
            declared: Arc::default(),
        }
    }

    /// Accepts a job, if `caller` may submit it: once this returns, it is in Redis and in RabbitMQ.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
    ) -> Result<Accepted, SubmitError> {
        let app = AppId::parse(&submission.app)?;
        caller.may_submit_to(&app)?;
        // Whatever comes of it, it was one more.
        self.throttle(caller).await?;
        let mut checked = self.check(caller, app, submission).await?;
        checked.job.owner = caller.owner().cloned();
        checked.max_jobs = caller.limits().max_jobs;
        let (job, state) = self.admit(checked).await?;
        // A known job that waits is published again: its first submission may have died between record and queue.
        if state == JobState::Queued
            && let Err(error) = self.publish(&job).await
        {
            // Not accepted: a record without a message would wait for ever. Unless another submission accepted it.
            let discarded = self.store.discard(&job.app, job.id).await;
            tracing::debug!(job.id = %job.id, ?discarded, "took back a submission");
            return Err(error);
        }
        let position = self.store.queue_position(&job.app, job.id).await?;
        tracing::debug!(job.id = %job.id, job.app = %job.app, "accepted a job");
        Ok(Accepted {
            job,
            queue_position: position.unwrap_or(0),
        })
    }

    /// The job as it is recorded, and where it stands: new, or as its first submission said.
    async fn admit(&self, checked: Checked) -> Result<(JobSpec, JobState), SubmitError> {
        let Checked { mut job, .. } = checked;
        let terms = Terms {
            key: checked.key.as_ref(),
            max_queue_length: checked.max_queue_length,
            max_active: self.jobs_left(&job, checked.max_jobs).await?,
        };
        match self.store.admit(&job, terms).await? {
            Created::New { id, created_ms } => {
                (job.id, job.created_ms) = (id, created_ms);
                Ok((job, JobState::Queued))
            }
            Created::Known { id } => {
                job.id = id;
                self.known(job).await
            }
            Created::Full { waiting } => Err(SubmitError::QueueFull {
                app: job.app,
                waiting,
                bound: checked.max_queue_length.unwrap_or_default(),
            }),
            Created::Busy => Err(SubmitError::TooManyJobs(
                checked.max_jobs.unwrap_or_default(),
            )),
        }
    }

    /// A job that was submitted before, as its first submission said. `again`: as it is now. Whoever submits again by AMQP
    /// wants to hear how it ends; if it has ended, that is announced again.
    async fn known(&self, again: JobSpec) -> Result<(JobSpec, JobState), SubmitError> {
        if let Some(reply_to) = &again.reply_to {
            let redirected = self.store.redirect_reply(&again.app, again.id, reply_to);
            redirected.await?;
        }
        let Some(first) = self.store.job_of(&again.app, again.id).await? else {
            return Ok((again, JobState::Queued));
        };
        if again.reply_to.is_some() && first.state.is_terminal() {
            self.endings.announce(&again, first.state).await?;
        }
        Ok((first.spec, first.state))
    }

    /// Everything that can be wrong with a submission by itself.
    async fn check(
        &self,
        caller: &Caller,
        name: AppId,
        submission: Submission,
    ) -> Result<Checked, SubmitError> {
        let declared = self.apps.declared();
        let key = (submission.idempotency_key.as_deref())
            .map(|text| IdempotencyKey::parse(text).map_err(SubmitError::InvalidKey))
            .transpose()?;
        let id = submission.id.unwrap_or_else(JobId::generate);
        let (destination, mut input) = match declared.routes.get(&name) {
            None => (
                self.reach(name, Vec::new()).await?,
                input::read(&submission.body)?,
            ),
            Some(route) => {
                let input = input::read(&submission.body)?;
                let (key, owner) = (key.as_ref(), caller.owner());
                let identity = Identity {
                    job: id,
                    key,
                    owner,
                };
                let what = (&submission, &input);
                let through = self.through((name, route), &declared, what, identity);
                (through.await?, input)
            }
        };
        let Destination {
            id: app_id,
            app,
            hops,
        } = destination;
        let problems = app.problems(&input);
        if !problems.is_empty() {
            return Err(SubmitError::InvalidInput(problems));
        }
        // Workers read files by reference, and take each for one that its submitter may read.
        (self.links.take(&mut input, now_s())).map_err(SubmitError::InvalidInput)?;
        let given = match submission.hint.as_deref() {
            Some(text) => Hint::parse_optional(text)?,
            None => None,
        };
        let hint = match (given, &app.config.hint_from) {
            (None, Some(path)) => path.hint(&input)?,
            (given, _) => given,
        };
        let priority = match submission.priority.as_deref() {
            Some(text) => {
                Priority::parse(text).ok_or_else(|| SubmitError::InvalidPriority(shown(text)))?
            }
            None => Priority::default(),
        };
        let max_warm_wait = (submission.max_warm_wait.as_deref())
            .map(|text| {
                text.parse::<Seconds>()
                    .map_err(SubmitError::InvalidPatience)
            })
            .transpose()?;
        let max_attempts = match submission.no_retry.as_deref() {
            Some("1" | "true") => 1,
            None | Some("" | "0" | "false") => app.config.max_attempts,
            Some(other) => {
                let told = other.chars().take(40).collect();
                return Err(SubmitError::InvalidNoRetry(told));
            }
        };
        let start_timeout_ms = (submission.start_timeout.as_deref())
            .map(start_timeout_ms)
            .transpose()?;
        let run_timeout = app.config.run_timeout;
        let no_store = match submission.store_io.as_deref() {
            None | Some("1") => false,
            Some("0") => true,
            Some(other) => return Err(SubmitError::InvalidStoreIo(shown(other))),
        };
        let links_s = match submission.lifecycle.as_deref() {
            Some(text) => lifetime::seconds(text).map_err(SubmitError::InvalidLifecycle)?,
            None => None,
        };
        let own_bound = (submission.max_queue_length.as_deref())
            .map(|text| {
                text.parse::<u64>()
                    .map_err(|_| SubmitError::InvalidQueueLength(shown(text)))
            })
            .transpose()?;
        if let Some(url) = &submission.webhook {
            self.fetcher
                .check(url)
                .map_err(SubmitError::InvalidWebhook)?;
        }
        let retention = match no_store {
            true => app.config.retention.min(NO_STORE_RETENTION),
            false => app.config.retention,
        };
        let job = JobSpec {
            id,
            path: submission.path,
            hint,
            priority,
            max_warm_wait_ms: max_warm_wait.map(Seconds::as_ms),
            start_timeout_ms,
            run_timeout_ms: run_timeout
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            max_attempts,
            reply_to: submission.reply_to,
            webhook: submission.webhook,
            retention_s: Some(retention.as_secs()),
            no_store,
            links_s,
            route: hops,
            ..JobSpec::new(app_id, input)
        };
        Ok(Checked {
            job,
            key,
            max_queue_length: own_bound
                .into_iter()
                .chain(app.config.max_queue_length)
                .min(),
            max_jobs: None,
        })
    }

    async fn publish(&self, job: &JobSpec) -> Result<(), SubmitError> {
        let key = self.topology.lane_key(&job.app, job.priority);
        let message = Message {
            message_id: Some(job.id.to_string()),
            ..Message::new(JobMessage::new(job.clone()).encode()?)
        };
        let mut attempt = 1;
        loop {
            let published = async {
                self.declare(&job.app).await?;
                let exchange = self.topology.dispatch_exchange();
                self.publisher.publish(&exchange, &key, &message).await
            };
            match published.await {
                Ok(()) => return Ok(()),
                // A connection that broke while nobody used it is found out by the first publish after.
                Err(PublishError::Lapin(_)) if attempt < PUBLISH_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Declares an app's queues before its first job: what is published for a missing queue would be lost.
    async fn declare(&self, app: &AppId) -> Result<(), PublishError> {
        let mut declared = self.declared.lock().await;
        if !declared.contains(app) {
            let channel = self.publisher.channel().await?;
            self.topology.declare_app(&channel, app).await?;
            declared.insert(app.clone());
        }
        Ok(())
    }
}

/// A time to start in, ms: more than none.
fn start_timeout_ms(text: &str) -> Result<u64, SubmitError> {
    let timeout = text
        .parse::<Seconds>()
        .map_err(SubmitError::InvalidStartTimeout)?;
    match timeout.as_ms() {
        0 => Err(SubmitError::InvalidStartTimeout(
            "the time to start must be more than 0: nothing starts at once".to_owned(),
        )),
        ms => Ok(ms),
    }
}

/// Rounded up, as `Retry-After` has whole seconds: who comes then is not too early.
fn in_seconds(wait: &Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// The beginning of what somebody sent us, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
