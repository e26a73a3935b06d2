//! The one door for jobs, whichever way they come: check, derive the hint, record, publish.

pub mod amqp;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;
use warmq_common::amqp::{Message, PublishError, Publisher, Topology};
use warmq_common::config::Seconds;
use warmq_common::hint::{Hint, InvalidHint};
use warmq_common::ids::{AppId, InvalidName, JobId};
use warmq_common::job::{FieldError, JobError, JobSpec, Priority, ReplyTo};
use warmq_common::message::{JobMessage, Versioned};
use warmq_common::store::{Created, Store};

use crate::apps::AppDirectory;

/// How often a job is published before its submitter hears that RabbitMQ is away.
const PUBLISH_ATTEMPTS: u32 = 2;

/// A job as its submitter gave it, nothing checked.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// `owner/name`.
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
    /// `1` or `true`: it is begun once at most, even if its runner is lost.
    pub no_retry: Option<String>,
    /// An id that the submitter chose, so that a repeated submission is known.
    pub id: Option<JobId>,
    /// Who wants the outcome by AMQP.
    pub reply_to: Option<ReplyTo>,
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
            Self::UnknownApp(_) => plain(404, "not_found"),
            Self::MalformedJson(_) => plain(400, "bad_request"),
            Self::InvalidInput(detail) => JobError::fields(detail.clone()),
            Self::InvalidHint(_) => header("x-fal-runner-hint", "invalid_hint"),
            Self::InvalidPriority(_) => header("x-fal-queue-priority", "invalid_priority"),
            Self::InvalidPatience(_) => header("x-max-warm-wait", "invalid_max_warm_wait"),
            Self::InvalidNoRetry(_) => header("x-fal-no-retry", "invalid_no_retry"),
            Self::Store(_) | Self::Publish(_) => JobError {
                message: "the queue can not take jobs right now; try again soon".to_owned(),
                ..plain(503, "runner_scheduling_failure")
            },
            Self::Message(_) => plain(500, "internal_error"),
        }
    }
}

/// A cheap handle on the door.
#[derive(Clone)]
pub struct Submitter {
    store: Store,
    publisher: Publisher,
    topology: Topology,
    apps: AppDirectory,
    declared: Arc<Mutex<HashSet<AppId>>>,
}

impl Submitter {
    /// The door into the given servers.
    pub fn new(store: Store, publisher: Publisher, topology: Topology, apps: AppDirectory) -> Self {
        Self {
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
        let mut job = self.check(submission).await?;
        let created = self.store.create(&job).await?;
        // A known id is published again: its first submission may have died between record and queue.
        job.created_ms = match created {
            Created::New { created_ms } | Created::Known { created_ms } => created_ms,
        };
        if let Err(error) = self.publish(&job).await {
            // Not accepted: a record without a message would wait for ever. One that was known is somebody's job.
            if matches!(created, Created::New { .. }) {
                let discarded = self.store.discard(&job.app, job.id).await;
                tracing::debug!(job.id = %job.id, ?discarded, "took back a record");
            }
            return Err(error);
        }
        let position = self.store.queue_position(&job.app, job.id).await?;
        tracing::debug!(job.id = %job.id, job.app = %job.app, "accepted a job");
        Ok(Accepted {
            job,
            queue_position: position.unwrap_or(0),
        })
    }

    /// Everything that can be wrong with a submission by itself.
    async fn check(&self, submission: Submission) -> Result<JobSpec, SubmitError> {
        let app_id = AppId::parse(&submission.app)?;
        let Some(app) = self.apps.find(&app_id).await? else {
            return Err(SubmitError::UnknownApp(app_id));
        };
        let input: Value = if submission.body.iter().all(u8::is_ascii_whitespace) {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(&submission.body).map_err(SubmitError::MalformedJson)?
        };
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
            Some(text) => Priority::parse(text)
                .ok_or_else(|| SubmitError::InvalidPriority(text.chars().take(40).collect()))?,
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
        Ok(JobSpec {
            id: submission.id.unwrap_or_else(JobId::generate),
            path: submission.path,
            hint,
            priority,
            max_warm_wait_ms: max_warm_wait.map(Seconds::as_ms),
            max_attempts,
            reply_to: submission.reply_to,
            ..JobSpec::new(app_id, input)
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
