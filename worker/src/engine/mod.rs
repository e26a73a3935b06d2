//! Engines: the interface between the runner, which handles queues, and what executes jobs, which
//! handles models.
//!
//! | module | contents |
//! | --- | --- |
//! | [`thread`] | the OS thread of an engine; tensors never leave it |
//! | [`input`] | parses a job's input into a type, with errors per field |
//! | [`selection`] | which of its models a worker serves |
//! | `picture` | decodes untrusted pictures within limits, encodes PNG, JPEG and WebP |
//! | [`diffusion`] | Stable Diffusion, through the crate `warmq-diffusion` |
//! | [`editing`] | edits pictures on the CPU: enlarges them, removes their background |
//! | [`http`] | runs jobs on a model server, by HTTP |
//! | [`timed`] | an engine that sleeps, for tests of routing and load |
//!
//! Each runner has an engine of its own, and thus its own cache and memory budget. Those of engine
//! `http` share their model server.

pub mod diffusion;
pub mod editing;
pub mod http;
pub mod input;
pub(crate) mod picture;
pub mod selection;
pub mod thread;
pub mod timed;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warmq_config::ByteSize;
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::RunnerId;
use warmq_types::job::{JobError, JobSpec, Progress, Timings};
use warmq_types::runner::ModelChange;
use warmq_types::tier::Tier;

use self::editing::Editor;
use self::editing::cutout::Cutout;
use self::editing::upscale::Upscale;
use self::http::ModelServer;
use self::selection::ModelSelection;
use crate::fault::Fault;
use crate::input_files::FileField;
use crate::model_cache::{self, Budget, Loader, ModelCache};

/// The engine of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Stable Diffusion.
    Diffusion,
    /// Enlarges pictures.
    Upscale,
    /// Makes the background of pictures transparent.
    Cutout,
    /// Runs jobs on a model server.
    Http,
    /// Sleeps, for tests.
    Timed,
}

impl EngineKind {
    const ALL: [Self; 5] = [
        Self::Diffusion,
        Self::Upscale,
        Self::Cutout,
        Self::Http,
        Self::Timed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Diffusion => "diffusion",
            Self::Upscale => "upscale",
            Self::Cutout => "cutout",
            Self::Http => "http",
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

/// Options of an engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// The engine.
    pub kind: EngineKind,
    /// Folder with one folder per model.
    pub models: PathBuf,
    /// Folder of LoRA files.
    pub loras: Option<PathBuf>,
    /// Memory budget for the loaded models of one runner.
    pub memory_budget: ByteSize,
    /// Budget of host memory for the evicted models of one runner.
    pub ram_budget: ByteSize,
    /// Models to load at the start, in this order; pinned ones are loaded first.
    pub preload: Vec<Hint>,
    /// Models that are never evicted.
    pub pin: Vec<Hint>,
    /// Device for tensors: `auto`, `cpu`, `cuda:0`.
    pub device: String,
    /// Number of models that the timed engine holds.
    pub slots: u16,
    /// The models that the worker serves, of those that it can load.
    pub only: ModelSelection,
    /// The model server of engine `http`.
    pub http: Option<http::options::Options>,
}

/// What the engines of one worker share; cheap to clone.
#[derive(Clone, Default)]
pub struct Shared {
    server: Option<Arc<ModelServer>>,
}

impl Shared {
    /// Starts what the engines share. `concurrency`: number of runners; `hang_grace`: time without
    /// a response after which a model server is restarted.
    ///
    /// # Errors
    /// A setting is wrong.
    pub async fn start(
        options: &Options,
        concurrency: usize,
        hang_grace: Duration,
    ) -> Result<Self, BuildError> {
        let server = match &options.http {
            Some(http) if options.kind == EngineKind::Http => {
                let only = options.only.clone();
                let started = ModelServer::start(http.clone(), concurrency, only, hang_grace);
                Some(Arc::new(started.await?))
            }
            _ => None,
        };
        Ok(Self { server })
    }

    /// Stops it, once no runner needs it.
    pub async fn stop(&self) {
        if let Some(server) = &self.server {
            server.stop().await;
        }
    }
}

/// Why an engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
    /// The machine lacks what the engine needs.
    #[error("{0}")]
    Unavailable(String),
}

impl Options {
    /// Returns the memory for models.
    fn budget(&self) -> Budget {
        Budget {
            device_bytes: self.memory_budget.0,
            ram_bytes: self.ram_budget.0,
        }
    }

    /// Returns the changes that precede the first job.
    pub fn first_change(&self) -> ModelChange {
        ModelChange {
            load: self.preload.clone(),
            pin: self.pin.clone(),
            ..ModelChange::default()
        }
    }
}

/// Builds the engine that `options` select, on the calling thread.
///
/// # Errors
/// The models or the device are missing.
pub fn build(
    options: &Options,
    shared: &Shared,
    runner: &RunnerId,
) -> Result<Box<dyn Engine>, BuildError> {
    Ok(match options.kind {
        EngineKind::Diffusion => Box::new(diffusion::Diffusion::new(options)?),
        EngineKind::Upscale => Box::new(Editor::<Upscale>::default()),
        EngineKind::Cutout => Box::new(Editor::<Cutout>::default()),
        EngineKind::Http => match &shared.server {
            Some(server) => Box::new(server.engine()),
            None => return Err(BuildError::Setting(NO_UPSTREAM.to_owned())),
        },
        EngineKind::Timed => Box::new(timed::Timed::new(options, runner.clone())?),
    })
}

/// Engine `http` without a model server.
const NO_UPSTREAM: &str =
    "engine http needs a model server: set --upstream http://127.0.0.1:9000, or --spawn COMMAND";

/// An engine's description, as of its start or its last check.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Device of the tensors: `cpu`, `cuda:0`.
    pub device: String,
    /// The catalog; empty if the engine accepts any name.
    pub models: Vec<String>,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// Input fields that name files. The worker fetches them before a run; see
    /// [`RunContext::file`].
    pub files: Vec<FileField>,
    /// Whether the worker replaces references to stored files, in any field, by `data:` URIs.
    pub inlines_files: bool,
}

/// What may change in an engine while it runs no job.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineState {
    /// The loaded models.
    pub report: RunnerReport,
    /// Why it can run no job, if it cannot.
    pub fault: Option<Fault>,
}

/// Runs jobs, one at a time, and keeps models between them. Built, used and dropped on one thread.
pub trait Engine {
    /// Returns the description.
    fn describe(&self) -> Description;

    /// Returns the loaded models and their memory.
    fn report(&self) -> RunnerReport;

    /// Checks a job's input within milliseconds, before its files are fetched.
    ///
    /// # Errors
    /// As [`Engine::run`], whatever the files contain.
    fn check_input(&mut self, job: &JobSpec) -> Result<(), Failure> {
        let _ = job;
        Ok(())
    }

    /// Changes the models in memory, between jobs: unpins, unloads, pins, loads. A failure affects
    /// its model only.
    fn change_models(&mut self, change: &ModelChange) -> Vec<RefusedChange> {
        let models = change.models();
        let refused = models.map(|model| RefusedChange {
            model: model.to_string(),
            reason: "the engine has no models".to_owned(),
        });
        refused.collect()
    }

    /// Runs a job to its end.
    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended;

    /// Checks, within milliseconds, the device and the models folder, or the model server. Returns
    /// the description, whose catalog may have changed.
    ///
    /// # Errors
    /// The engine cannot run any job.
    fn check(&mut self) -> Result<Description, Fault> {
        Ok(self.describe())
    }

    /// Returns a receiver of its state, if that changes by itself.
    fn watch(&self) -> Option<watch::Receiver<EngineState>> {
        None
    }
}

/// A model that could not be changed as requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedChange {
    /// Its name.
    pub model: String,
    /// The reason, for operators.
    pub reason: String,
}

/// The context of a run: progress out, cancellation and input files in.
pub trait RunContext {
    /// Returns the file that an input field names, if any.
    fn file(&self, field: &str) -> Option<&[u8]>;

    /// Returns the path of the large file that a text of the input names, if any.
    fn path(&self, text: &str) -> Option<&Path> {
        let _ = text;
        None
    }

    /// Reports progress. `Break` means that the job is cancelled: end with [`Failure::Cancelled`].
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;

    /// Emits an event of the job's stream: any JSON.
    fn event(&mut self, event: Value);

    /// Returns whether the job is cancelled.
    fn cancelled(&self) -> bool;

    /// Returns a token that is cancelled with the job.
    fn cancellation(&self) -> CancellationToken;
}

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

/// The context of a load that no job needs: no progress, no cancellation.
struct WithoutJob;

impl RunContext for WithoutJob {
    fn file(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn event(&mut self, _: Value) {}

    fn cancelled(&self) -> bool {
        false
    }

    fn cancellation(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// Applies a change to a cache. `load` loads a model for it.
fn change_models<L: Loader>(
    cache: &mut ModelCache<L>,
    change: &ModelChange,
    mut load: impl FnMut(&mut ModelCache<L>, &str) -> Result<(), String>,
) -> Vec<RefusedChange> {
    let mut refused = Vec::new();
    let mut refuse = |model: &Hint, reason: String| {
        refused.push(RefusedChange {
            model: model.to_string(),
            reason,
        });
    };
    for model in &change.unpin {
        cache.unpin(model.as_str());
    }
    for model in &change.unload {
        let is_pinned = cache.pinned().any(|pinned| pinned == model.as_str());
        match is_pinned {
            true => refuse(model, "it is pinned: unpin it first".to_owned()),
            false => cache.unload(model.as_str()),
        }
    }
    for (model, is_pinned) in (change.pin.iter().map(|model| (model, true)))
        .chain(change.load.iter().map(|model| (model, false)))
    {
        match load(cache, model.as_str()) {
            Ok(()) if is_pinned => cache.pin(model.as_str()),
            Ok(()) => {}
            Err(reason) => refuse(model, reason),
        }
    }
    refused
}

/// Describes the models in a cache. `catalog`: names and sizes of the models that it can load.
fn report<L: Loader>(cache: &ModelCache<L>, catalog: &[(String, u64)]) -> RunnerReport {
    let hints = |names: Vec<&str>| -> Vec<Hint> {
        let hints = names.into_iter().map(Hint::parse);
        hints.filter_map(Result::ok).collect()
    };
    let outside = |tier: Tier| {
        let outside = catalog
            .iter()
            .filter(move |(name, _)| cache.tier(name) != tier);
        outside.map(|(_, bytes)| *bytes)
    };
    RunnerReport {
        hints: hints(cache.names()),
        memory_bytes: cache.bytes(),
        slots: cache.slots(outside(Tier::Device)),
        ram_hints: hints(cache.ram_names()),
        ram_bytes: cache.ram_bytes(),
        ram_slots: cache.ram_slots(outside(Tier::Ram)),
        pinned: hints(cache.pinned().collect()),
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

    /// Records progress, and cancels after so many reports.
    #[derive(Default)]
    pub(super) struct RecordingContext {
        /// The file of every field.
        pub(super) file: Option<Vec<u8>>,
        pub(super) progress: Vec<Progress>,
        pub(super) stop_after: Option<usize>,
        pub(super) events: Vec<Value>,
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

        fn event(&mut self, event: Value) {
            self.events.push(event);
        }

        fn cancelled(&self) -> bool {
            self.stop_after
                .is_some_and(|limit| self.progress.len() >= limit)
        }

        fn cancellation(&self) -> CancellationToken {
            CancellationToken::new()
        }
    }
}
