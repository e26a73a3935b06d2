//! Builds the engine that a worker's settings select.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use warmq_config::ByteSize;
use warmq_types::hint::Hint;
use warmq_types::ids::RunnerId;
use warmq_types::runner::ModelChange;

use super::editing::Editor;
use super::editing::cutout::Cutout;
use super::editing::upscale::Upscale;
use super::http::{self, ModelServer};
use super::selection::ModelSelection;
use super::{Engine, diffusion, timed};
use crate::model_cache::Budget;

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
    pub(super) fn budget(&self) -> Budget {
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
