//! When the stages of a run began: a report of progress begins one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use warmq_types::job::{Phase, Progress};

/// Maximum number of stages that are kept: a model server may report without end.
const MAX_STAGES: usize = 1000;

/// A stage of a run. Each ends where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Fetches the files that the input names.
    Fetch,
    /// The engine has the job.
    Begin,
    /// Loads the model.
    Load,
    /// A step, counted from 1.
    Step(u32),
    /// Decodes a picture.
    Decode,
    /// Stores the files.
    Store,
}

/// Stages in order, each with the time at which it began.
pub type Stages = Vec<(SystemTime, Stage)>;

/// The stages of a run in order, if they are recorded. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Option<Arc<Mutex<Stages>>>);

impl Timeline {
    /// Returns an empty one. `recorded`: whether stages are kept.
    pub fn new(recorded: bool) -> Self {
        Self(recorded.then(Arc::default))
    }

    /// Begins a stage, unless it is the current one.
    pub fn begin(&self, stage: Stage) {
        let Some(stages) = &self.0 else { return };
        let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = stages.last().is_some_and(|(_, last)| *last == stage);
        if !is_current && stages.len() < MAX_STAGES {
            stages.push((SystemTime::now(), stage));
        }
    }

    /// Begins the stage that the engine reports.
    pub fn report(&self, progress: &Progress) {
        match (progress.phase, progress.step) {
            (Phase::Loading, _) => self.begin(Stage::Load),
            (Phase::Running, step @ 1..) => self.begin(Stage::Step(step)),
            (Phase::Fetching | Phase::Running | Phase::Storing, _) => {}
        }
    }

    /// Takes the stages.
    pub fn take(&self) -> Stages {
        let Some(stages) = &self.0 else {
            return Stages::new();
        };
        std::mem::take(&mut stages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
