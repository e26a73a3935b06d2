//! The end of a run: output and files, or why it failed.

use std::fmt;

use serde_json::Value;
use warmq_types::fault::FaultKind;
use warmq_types::job::{JobError, Timings};

use crate::fault::Fault;
use crate::model_cache;

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The output or the failure.
    pub result: Result<Produced, Failure>,
    /// Load and run time, of a failed run as well.
    pub timings: Timings,
    /// The model that ran, if it is not the job's hint.
    pub model: Option<String>,
}

impl Default for Ended {
    fn default() -> Self {
        Self::failed(Failure::Cancelled)
    }
}

impl Ended {
    /// Creates a run that failed and took no time.
    pub fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            timings: Timings::default(),
            model: None,
        }
    }
}

/// A job's output and files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Produced {
    /// The output, with null in place of each file's reference.
    pub output: Value,
    /// The files, which are stored before the output is published.
    pub files: Vec<File>,
}

/// An output file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Name, unique within the job: `0.png`.
    pub name: String,
    /// JSON pointer to its reference in the output: `/images/0/url`.
    pub pointer: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The job's error. There is no further attempt: it would fail again.
    Job(JobError),
    /// Something that the input names is unavailable for now. The job gets another attempt; this is
    /// its error if there is none left.
    Unavailable(JobError),
    /// A fault of the runner. The job is requeued.
    Runner(Fault),
    /// Stopped on request.
    Cancelled,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(error) | Self::Unavailable(error) => f.write_str(&error.message),
            Self::Runner(fault) => fault.fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Runner(fault)
    }
}

impl From<model_cache::TooLarge> for Failure {
    fn from(refused: model_cache::TooLarge) -> Self {
        // Another worker's budget may be larger.
        Self::Runner(Fault::new(FaultKind::Budget, refused.to_string()))
    }
}

impl From<model_cache::Error<Failure>> for Failure {
    fn from(error: model_cache::Error<Failure>) -> Self {
        match error {
            model_cache::Error::Load(failure) | model_cache::Error::ExceedsDevice(failure) => {
                failure
            }
            model_cache::Error::TooLarge(refused) => refused.into(),
        }
    }
}
