//! The one door for jobs, whichever way they come: check, follow routes, derive the hint, record, publish.

pub mod amqp;
mod destination;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use warmq_common::amqp::{Message, PublishError, Publisher, Topology};
use warmq_common::config::Seconds;
use warmq_common::hint::{Hint, InvalidHint};
use warmq_common::ids::{AppId, IdempotencyKey, InvalidName, JobId};
use warmq_common::job::{FieldError, JobError, JobSpec, Priority, ReplyTo};
use warmq_common::message::{JobMessage, Versioned};
use warmq_common::state::JobState;
use warmq_common::store::{Created, Store, Terms};

use crate::apps::AppDirectory;
use crate::ending::Endings;
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
    /// The submitter wants to hear at once if that many jobs wait already.
    pub max_queue_length: Option<String>,
    /// Who wants the outcome by AMQP.
    pub reply_to: Option<ReplyTo>,
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

    /// What the submitter is told: status and body.
    pub fn to_job_error(&self) -> JobError {
        let header = |name: &str, error_type: &str| {
            JobError::fields(vec![FieldError {
                loc: vec!["header".into(), name.into()],
                msg: self.to_string(),
                error_type: error_type.to_owned(),
            }])
        };
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
            Self::MalformedJson(_) => plain(400, "bad_request"),
            Self::InvalidInput(detail) => JobError::fields(detail.clone()),
            Self::InvalidHint(_) => header("x-fal-runner-hint", "invalid_hint"),
            Self::InvalidPriority(_) => header("x-fal-queue-priority", "invalid_priority"),
            Self::InvalidPatience(_) => header("x-max-warm-wait", "invalid_max_warm_wait"),
            Self::InvalidStartTimeout(_) => {
                header("x-fal-request-timeout", "invalid_request_timeout")
            }
            Self::InvalidKey(_) => header("idempotency-key", "invalid_idempotency_key"),
            Self::InvalidStoreIo(_) => header("x-fal-store-io", "invalid_store_io"),
            Self::InvalidQueueLength(_) => JobError::fields(vec![FieldError {
                loc: vec!["query".into(), "fal_max_queue_length".into()],
                msg: self.to_string(),
                error_type: "invalid_max_queue_length".to_owned(),
            }]),
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
}

/// A cheap handle on the door.
#[derive(Clone)]
pub struct Submitter {
    store: Store,
    publisher: Publisher,
    topology: Topology,
    apps: AppDirectory,
    endings: Endings,
    declared: Arc<Mutex<HashSet<AppId>>>,
}

impl Submitter {
    /// The door into the given servers.
    pub fn new(store: Store, publisher: Publisher, topology: Topology, apps: AppDirectory) -> Self {
        Self {
            endings: Endings::new(store.clone(), publisher.clone(), topology.clone()),
            store,
            publisher,
            topology,
            apps,
            declared: Arc::default(),
        }
    }

    /// Accepts a job: once this returns, it is in Redis and in RabbitMQ.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let (job, state) = self.admit(self.check(submission).await?).await?;
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
    async fn check(&self, submission: Submission) -> Result<Checked, SubmitError> {
        let name = AppId::parse(&submission.app)?;
        let declared = self.apps.declared();
        let key = (submission.idempotency_key.as_deref())
            .map(|text| IdempotencyKey::parse(text).map_err(SubmitError::InvalidKey))
            .transpose()?;
        let id = submission.id.unwrap_or_else(JobId::generate);
        let (destination, input) = match declared.routes.get(&name) {
            None => (self.reach(name, Vec::new()).await?, input_of(&submission)?),
            Some(route) => {
                let input = input_of(&submission)?;
                let (key, what) = (key.as_ref(), (&submission, &input));
                let identity = Identity { job: id, key };
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
        let own_bound = (submission.max_queue_length.as_deref())
            .map(|text| {
                text.parse::<u64>()
                    .map_err(|_| SubmitError::InvalidQueueLength(shown(text)))
            })
            .transpose()?;
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
            retention_s: Some(retention.as_secs()),
            no_store,
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

/// The input: no body at all is an empty object.
fn input_of(submission: &Submission) -> Result<Value, SubmitError> {
    if submission.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(&submission.body).map_err(SubmitError::MalformedJson)
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

/// The beginning of what somebody sent us, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
