//! Messages in RabbitMQ: JSON with a version, so that a rolling update can mix builds.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::attempt::Lease;
use crate::attempt::Outcome;
use crate::fault::RunnerFault;
use crate::flow::StepOf;
use crate::ids::{AppId, Epoch, JobId, RunnerId};
use crate::job::{JobError, JobRecord, JobSpec, ReplyTo, StoredInput, Timings};
use crate::state::JobState;
use crate::unknown::{UnknownFields, known_items};

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// Why a body is not a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of such a message.
    #[error("not a warmq message: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that this build does not read.
    #[error("message version {found} is not {VERSION}")]
    Version {
        /// Version in the message.
        found: u32,
    },
}

/// A job on its way to a dispatcher or a runner. It contains the whole spec, so a job can run
/// without Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobMessage {
    v: u32,
    /// The job.
    pub job: JobSpec,
    /// Avoid list, the latest runner last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<RunnerId>,
    /// Faults of the job on healthy runners, the latest last. Those of unknown kinds are dropped.
    #[serde(
        default,
        deserialize_with = "known_items",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub faults: Vec<RunnerFault>,
    /// Fields of a newer build, carried.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// What failed attempts left behind; kept in the record and carried by each message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureHistory {
    /// Avoid list, the latest runner last.
    pub avoid: Vec<RunnerId>,
    /// Faults of the job on healthy runners, the latest last.
    pub faults: Vec<RunnerFault>,
}

impl FailureHistory {
    /// Returns whether no attempt failed.
    pub fn is_empty(&self) -> bool {
        self.avoid.is_empty() && self.faults.is_empty()
    }
}

/// Maximum length of the avoid list: the latest entries remain.
const MAX_AVOIDED: usize = 16;

impl JobMessage {
    /// Wraps a job in this build's version.
    pub fn new(job: JobSpec) -> Self {
        Self {
            v: VERSION,
            job,
            avoid: Vec::new(),
            faults: Vec::new(),
            unknown: UnknownFields::new(),
        }
    }

    /// Merges the lists of the job's record. A fault that only the message has occurred while Redis
    /// was unavailable.
    #[must_use]
    pub fn with(mut self, recorded: FailureHistory) -> Self {
        for runner in recorded.avoid {
            self = self.avoiding(runner);
        }
        if recorded.faults.len() >= self.faults.len() {
            self.faults = recorded.faults;
        }
        self
    }

    /// Adds a runner to the avoid list.
    #[must_use]
    pub fn avoiding(mut self, runner: RunnerId) -> Self {
        self.avoid.retain(|known| *known != runner);
        self.avoid.push(runner);
        let surplus = self.avoid.len().saturating_sub(MAX_AVOIDED);
        self.avoid.drain(..surplus);
        self
    }
}

/// An event on exchange `jobs.events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    v: u32,
    /// The job.
    pub job_id: JobId,
    /// Its app.
    pub app: AppId,
    /// The state that the job reached.
    pub state: JobState,
    /// Receiver of the outcome by AMQP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// The flow that the job is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_of: Option<StepOf>,
    /// Stored input of an ended job that is not to be kept (`X-Fal-Store-IO: 0`): the receiver
    /// deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_input: Option<StoredInput>,
    /// Fields of a newer build, carried.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl JobEvent {
    /// Returns the event that `job` reached `state`.
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
            unknown: UnknownFields::new(),
        }
    }
}

/// A deferred result: the outcome of an attempt, published to RabbitMQ because Redis was
/// unavailable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeferredResult {
    v: u32,
    /// The job that ran.
    pub job: JobSpec,
    /// The runner that ran it.
    pub runner: RunnerId,
    /// The runner's incarnation.
    pub epoch: Epoch,
    /// Begin, Unix ms by the runner's clock.
    pub since_ms: u64,
    /// Lease of the attempt; absent if Redis was unavailable at its start.
    pub lease: Option<Lease>,
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// Timings of the attempt.
    pub timings: Timings,
}

impl DeferredResult {
    /// Returns the result of an attempt of `job` by this incarnation of `runner`, begun at
    /// `since_ms` (Unix ms).
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

/// A message type with a version.
pub trait Versioned: Serialize + for<'a> Deserialize<'a> {
    /// Returns the version in the message.
    fn version(&self) -> u32;

    /// Encodes the message.
    fn encode(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Decodes bytes that [`Versioned::encode`] wrote.
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

/// Returns the body of a reply or webhook: fal's shape of an outcome.
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

/// Returns the body of a reply to a job that failed or was never accepted (no id).
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
