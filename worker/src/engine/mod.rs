//! What runs jobs: the seam between the runner, which knows queues, and an engine, which knows models.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`thread`] | the OS thread that an engine lives on; tensors never leave it |
//! | [`input`] | a job's input, read into a type; what is wrong with it, field by field |
//! | `picture` | a stranger's picture, decoded with bounds; and pictures as PNGs |
//! | [`diffusion`] | Stable Diffusion, by the crate `warmq-diffusion` |
//! | [`pictures`] | a picture of a picture, on the CPU: larger, or without its background |
//! | [`timed`] | an engine that only takes time, for tests of routing and load |
//!
//! Each runner has an engine, and so a cache and a memory budget, of its own.

pub mod diffusion;
pub mod input;
mod picture;
pub mod pictures;
pub mod thread;
pub mod timed;

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use serde_json::Value;
use warmq_config::ByteSize;
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::ids::RunnerId;
use warmq_types::job::{JobError, JobSpec, Progress, Timings};

use self::pictures::Editor;
use self::pictures::cutout::Cutout;
use self::pictures::upscale::Upscale;
use crate::fault::Fault;
use crate::input_files::FileField;
use crate::model_cache;

/// Which engine a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Stable Diffusion.
    Diffusion,
    /// Makes pictures larger.
    Upscale,
    /// Makes the background of pictures transparent.
    Cutout,
    /// Only takes time.
    Timed,
}

impl EngineKind {
    const ALL: [Self; 4] = [Self::Diffusion, Self::Upscale, Self::Cutout, Self::Timed];

    fn name(self) -> &'static str {
        match self {
            Self::Diffusion => "diffusion",
            Self::Upscale => "upscale",
            Self::Cutout => "cutout",
            Self::Timed => "timed",
        }
    }
}

impl FromStr for EngineKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown engine '{text}'; known: {known}")
        })
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an engine is built from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which one.
    pub kind: EngineKind,
    /// The folder of model folders.
    pub models: PathBuf,
    /// How much the loaded models of one runner may hold.
    pub memory_budget: ByteSize,
    /// Where tensors shall live: `auto`, `cpu`, `cuda:0`.
    pub device: String,
    /// How many models a timed engine holds.
    pub slots: u16,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The settings ask for what is not there.
    #[error("{0}")]
    Setting(String),
    /// The machine has not got it.
    #[error("{0}")]
    Unavailable(String),
}

/// Builds the engine that `options` ask for, on the calling thread.
///
/// # Errors
/// The models or the device are not there.
pub fn build(options: &Options, runner: &RunnerId) -> Result<Box<dyn Engine>, BuildError> {
    Ok(match options.kind {
        EngineKind::Diffusion => Box::new(diffusion::Diffusion::new(options)?),
        EngineKind::Upscale => Box::new(Editor::<Upscale>::default()),
        EngineKind::Cutout => Box::new(Editor::<Cutout>::default()),
        EngineKind::Timed => Box::new(timed::Timed::new(options, runner.clone())),
    })
}

/// What an engine says of itself, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Where tensors live: `cpu`, `cuda:0`.
    pub device: String,
    /// The models that it can load; empty when it takes any name.
    pub models: Vec<String>,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// Which fields of the input name files. They are got before a run; see [`RunContext::file`].
    pub files: Vec<FileField>,
}

/// Runs jobs, one at a time, and keeps models between them. Built, used and dropped on one thread.
pub trait Engine {
    /// What it is.
    fn describe(&self) -> Description;

    /// What it holds now.
    fn report(&self) -> RunnerReport;

    /// Runs a job to its end.
    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended;

    /// Tests whether it can work, in milliseconds: its device, the folder of its models. Returns the models that it can
    /// load now, sorted; none when it takes any name.
    ///
    /// # Errors
    /// It can run no job at all.
    fn check(&mut self) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
}

/// What an engine tells while it runs a job, how it learns that it shall stop, and the files that the job came with.
pub trait RunContext {
    /// The file that this field of the input names, if it names one.
    fn file(&self, field: &str) -> Option<&[u8]>;

    /// Says how far the job is. `Break`: nobody wants the job any more, end with [`Failure::Cancelled`].
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;

    /// As [`RunContext::progress`], with nothing to say.
    fn cancelled(&self) -> bool;
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What came of it.
    pub result: Result<Produced, Failure>,
    /// What it cost; of a failed run too.
    pub timings: Timings,
    /// The model that ran, where it is not the one that the job's hint names.
    pub model: Option<String>,
}

impl Default for Ended {
    fn default() -> Self {
        Self::failed(Failure::Cancelled)
    }
}

impl Ended {
    /// A run that made nothing and took no time.
    pub fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            timings: Timings::default(),
            model: None,
        }
    }
}

/// What a job made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Produced {
    /// The app's output, with a null where each file's reference belongs.
    pub output: Value,
    /// The files, to be stored before the output means anything.
    pub files: Vec<File>,
}

/// A file that a job made.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name among the job's files: `0.png`.
    pub name: String,
    /// Where in the output its reference belongs (JSON pointer): `/images/0/url`.
    pub pointer: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Why a run made nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The job fails with this error. It is not tried again: it would fail again.
    Job(JobError),
    /// The runner failed. The job is tried elsewhere.
    Runner(Fault),
    /// It stopped because it was told to.
    Cancelled,
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
            model_cache::Error::Load(failure) => failure,
            model_cache::Error::TooLarge(refused) => refused.into(),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod testing {
    use super::*;
    use warmq_types::hint::Hint;
    use warmq_types::ids::AppId;

    pub(super) fn job(hint: &str, input: Value) -> JobSpec {
        JobSpec {
            hint: Hint::parse_optional(hint).unwrap(),
            ..JobSpec::new(AppId::parse("a/b").unwrap(), input)
        }
    }

    /// Notes what it is told, and wants the job no more after so many reports.
    #[derive(Default)]
    pub(super) struct RecordingContext {
        /// What every field of the input names.
        pub(super) file: Option<Vec<u8>>,
        pub(super) progress: Vec<Progress>,
        pub(super) stop_after: Option<usize>,
    }

    impl RunContext for RecordingContext {
        fn file(&self, _: &str) -> Option<&[u8]> {
            self.file.as_deref()
        }

        fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
            self.progress.push(progress);
            if self.cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }

        fn cancelled(&self) -> bool {
            self.stop_after
                .is_some_and(|limit| self.progress.len() >= limit)
        }
    }
}
