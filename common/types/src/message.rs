//! What travels through RabbitMQ: JSON with a version, so that old and new processes can meet in a rolling update.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::attempt::Lease;
use crate::attempt::Outcome;
use crate::fault::RunnerFault;
use crate::flow::StepOf;
use crate::ids::{AppId, Epoch, JobId, RunnerId};
use crate::job::{JobError, JobRecord, JobSpec, ReplyTo, StoredInput, Timings};
use crate::state::JobState;

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// A body that can not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of such a message.
    #[error("not a warmq message: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a build that this one does not understand.
    #[error("message version {found} is not {VERSION}")]
    Version {
        /// What the message says.
        found: u32,
    },
}

/// A job on its way to a dispatcher or a runner. It carries the whole spec, so a job can run when Redis is away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobMessage {
    v: u32,
    /// The job.
    pub job: JobSpec,
    /// Runners on which an attempt failed, the latest last: others are preferred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<RunnerId>,
    /// Faults that it met on healthy runners, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<RunnerFault>,
}

/// What a job's attempts that counted left behind. The record has it, and each message carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setbacks {
    /// Runners on which an attempt failed, the latest last.
    pub avoid: Vec<RunnerId>,
    /// Faults that the job met on healthy runners, the latest last.
    pub faults: Vec<RunnerFault>,
}

impl Setbacks {
    /// Returns whether no attempt failed.
    pub fn is_empty(&self) -> bool {
        self.avoid.is_empty() && self.faults.is_empty()
    }
}

/// Runners to avoid that a message lists at most: the latest.
const MAX_AVOIDED: usize = 16;

impl JobMessage {
    /// Wraps a job in this build's version.
    pub fn new(job: JobSpec) -> Self {
        Self {
            v: VERSION,
            job,
            avoid: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Adds what the job's record says. A fault that only the message has was met while Redis was away.
    #[must_use]
    pub fn with(mut self, recorded: Setbacks) -> Self {
        for runner in recorded.avoid {
            self = self.avoiding(runner);
        }
        if recorded.faults.len() >= self.faults.len() {
            self.faults = recorded.faults;
        }
        self
    }

    /// Adds a runner to avoid where there is another.
    #[must_use]
    pub fn avoiding(mut self, runner: RunnerId) -> Self {
        self.avoid.retain(|known| *known != runner);
        self.avoid.push(runner);
        let surplus = self.avoid.len().saturating_sub(MAX_AVOIDED);
        self.avoid.drain(..surplus);
        self
    }
}

/// Something that happened to a job, on exchange `jobs.events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    v: u32,
    /// The job.
    pub job_id: JobId,
    /// Its app.
    pub app: AppId,
    /// The state that it reached.
    pub state: JobState,
    /// Who wants to hear of it by AMQP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// The flow that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_of: Option<StepOf>,
    /// The stored input of a job that ended and is not to be kept (`X-Fal-Store-IO: 0`): it is to be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_input: Option<StoredInput>,
}

impl JobEvent {
    /// Says that `job` reached `state`.
    pub fn new(job: &JobSpec, state: JobState) -> Self {
        Self {
            v: VERSION,
            job_id: job.id,
            app: job.app.clone(),
            state,
            reply_to: job.reply_to.clone(),
            step_of: job.step_of.clone(),
            forget_input: (job.stored_input.clone())
                .filter(|_| job.no_store && state.is_terminal()),
        }
    }
}

/// How an attempt ended, on its way to Redis by the broker: Redis is away, and the runner goes on with the next job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeferredResult {
    v: u32,
    /// What ran.
    pub job: JobSpec,
    /// Who ran it.
    pub runner: RunnerId,
    /// In which incarnation.
    pub epoch: Epoch,
    /// Since when, Unix ms by that machine's clock.
    pub since_ms: u64,
    /// Its right to do so; none if Redis was away already when it began.
    pub lease: Option<Lease>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it cost.
    pub timings: Timings,
}

impl DeferredResult {
    /// Of an attempt of `job` by this incarnation of `runner`, begun at `since_ms` (Unix ms).
    pub fn new(
        job: JobSpec,
        (runner, epoch): (RunnerId, Epoch),
        since_ms: u64,
        lease: Option<Lease>,
        (outcome, timings): (Outcome, Timings),
    ) -> Self {
        Self {
            v: VERSION,
            job,
            runner,
            epoch,
            since_ms,
            lease,
            outcome,
            timings,
        }
    }
}

/// A message type that carries its version.
pub trait Versioned: Serialize + for<'a> Deserialize<'a> {
    /// The version found in the message.
    fn version(&self) -> u32;

    /// The message as bytes.
    fn encode(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads bytes that [`Versioned::encode`] wrote.
    fn decode(body: &[u8]) -> Result<Self, Error> {
        let message: Self = serde_json::from_slice(body)?;
        match message.version() {
            VERSION => Ok(message),
            found => Err(Error::Version { found }),
        }
    }
}

impl Versioned for JobMessage {
    fn version(&self) -> u32 {
        self.v
    }
}

impl Versioned for DeferredResult {
    fn version(&self) -> u32 {
        self.v
    }
}

impl Versioned for JobEvent {
    fn version(&self) -> u32 {
        self.v
    }
}

/// The body of a reply (and of a webhook): fal's shape for an outcome.
pub fn outcome_body(record: &JobRecord) -> Value {
    match record.failure() {
        Some(error) => error_body(Some(record.spec.id), &error),
        None => {
            let mut payload = record.output.clone().unwrap_or_default();
            record.spec.stamp_model_version(&mut payload);
            json!({
                "request_id": record.spec.id,
                "gateway_request_id": record.spec.id,
                "status": if record.state == JobState::Succeeded { "OK" } else { "ERROR" },
                "payload": payload,
            })
        }
    }
}

/// The body of a reply to a job that failed, or that was never accepted (no id).
pub fn error_body(id: Option<JobId>, error: &JobError) -> Value {
    json!({
        "request_id": id,
        "gateway_request_id": id,
        "status": "ERROR",
        "error": error.message,
        "payload": error.body(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_by_number() {
        let job = JobSpec::new(AppId::parse("a/b").unwrap(), json!({}));
        let event = JobEvent::new(&job, JobState::Succeeded);
        let mut json = serde_json::to_value(&event).unwrap();
        assert_eq!(JobEvent::decode(&event.encode().unwrap()).unwrap(), event);
        json["v"] = 2.into();
        let error = JobEvent::decode(json.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "message version 2 is not 1");
    }
}
