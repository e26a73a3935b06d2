//! Engines: the interface between the runner, which handles queues, and what executes jobs, which
//! handles models.
//!
//! | module | contents |
//! | --- | --- |
//! | `build` | builds the engine that a worker's settings select |
//! | [`thread`] | the OS thread of an engine; tensors never leave it |
//! | [`input`] | parses a job's input into a type, with errors per field |
//! | `outcome` | the end of a run: output and files, or why it failed |
//! | [`selection`] | which of its models a worker serves |
//! | `cached_models` | what the engines with a model cache share |
//! | `picture` | decodes untrusted pictures within limits, encodes PNG, JPEG and WebP |
//! | [`diffusion`] | Stable Diffusion, through the crate `warmq-diffusion` |
//! | [`editing`] | edits pictures on the CPU: enlarges them, removes their background |
//! | [`http`] | runs jobs on a model server, by HTTP |
//! | [`timed`] | an engine that sleeps, for tests of routing and load |
//!
//! Each runner has an engine of its own, and thus its own cache and memory budget. Those of engine
//! `http` share their model server.

mod build;
mod cached_models;
pub mod diffusion;
pub mod editing;
pub mod http;
pub mod input;
mod outcome;
pub(crate) mod picture;
pub mod selection;
pub mod thread;
pub mod timed;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warmq_store::RunnerReport;
use warmq_types::job::{JobSpec, Progress};
use warmq_types::runner::ModelChange;

pub use self::build::{BuildError, EngineKind, Options, Shared, build};
pub use self::outcome::{Ended, Failure, File, Produced};
use crate::fault::Fault;
use crate::input_files::FileField;

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

    /// Notes that a picture's decoding begins.
    fn decoding(&mut self) {}

    /// Emits an event of the job's stream: any JSON.
    fn event(&mut self, event: Value);

    /// Returns whether the job is cancelled.
    fn cancelled(&self) -> bool;

    /// Returns a token that is cancelled with the job.
    fn cancellation(&self) -> CancellationToken;
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
