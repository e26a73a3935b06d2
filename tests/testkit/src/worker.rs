//! A worker process.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::time::Duration;

use warmq_types::ids::{AppId, InvalidName, RunnerId};
use warmq_types::runner::RunnerRecord;

use crate::process::Process;

/// Timeout of the registration, on a busy machine.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The options of a worker. Names are checked at its start.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Name of its runner and of its log.
    pub name: String,
    /// The app whose jobs it runs.
    pub app: String,
    /// `diffusion`, `upscale`, …
    pub engine: String,
    /// Folder of model folders.
    pub models: Option<PathBuf>,
    /// Memory for loaded models: `512MiB`.
    pub memory_budget: Option<String>,
    /// Model slots of the timed engine.
    pub slots: Option<u32>,
    /// Number of runners.
    pub concurrency: u32,
    /// Further flags.
    pub args: Vec<String>,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
}

impl WorkerOptions {
    /// Creates a worker with an engine without models: `upscale`, `cutout`, …
    pub fn of(engine: &str, name: &str, app: &str) -> Self {
        Self {
            name: name.to_owned(),
            app: app.to_owned(),
            engine: engine.to_owned(),
            models: None,
            memory_budget: None,
            slots: None,
            concurrency: 1,
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Creates a worker with the `timed` engine: no tensors, run and load times by the job's input.
    pub fn timed(name: &str, app: &str) -> Self {
        Self::of("timed", name, app)
    }

    /// Creates a worker with the `diffusion` engine and the models in `models`.
    pub fn diffusion(name: &str, app: &str, models: impl Into<PathBuf>) -> Self {
        Self {
            models: Some(models.into()),
            ..Self::of("diffusion", name, app)
        }
    }

    /// Adds flags.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the checked names.
    pub(crate) fn names(&self) -> Result<(RunnerId, AppId), InvalidName> {
        Ok((RunnerId::parse(&self.name)?, AppId::parse(&self.app)?))
    }

    /// Returns the flags of `warmq-worker`.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--app={}", self.app),
            format!("--engine={}", self.engine),
            format!("--runner-name={}", self.name),
        ];
        // Absolute, since the worker runs in the testbed's folder.
        let models = self.models.as_deref().map(|path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            format!("--models={}", path.display())
        });
        flags.extend(models);
        let budget = self.memory_budget.as_deref();
        flags.extend(budget.map(|size| format!("--memory-budget={size}")));
        flags.extend(self.slots.map(|slots| format!("--slots={slots}")));
        if self.concurrency != 1 {
            flags.push(format!("--concurrency={}", self.concurrency));
        }
        flags.extend(self.args.iter().cloned());
        flags
    }
}

/// A running worker with registered runners. Dereferences to its [`Process`].
#[derive(Debug)]
pub struct Worker {
    pub(crate) process: Process,
    pub(crate) app: AppId,
    pub(crate) runners: Vec<RunnerRecord>,
}

impl Worker {
    /// Its app.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// Returns the id of its first runner.
    pub fn runner(&self) -> &RunnerId {
        // A worker is ready only once a runner is registered.
        &self.runners[0].id
    }

    /// Returns the records of its runners at registration.
    pub fn runners(&self) -> &[RunnerRecord] {
        &self.runners
    }
}

impl Deref for Worker {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_options_are_left_to_the_workers_defaults() {
        let flags = WorkerOptions::timed("a", "bench/timed").flags();
        assert_eq!(
            flags,
            ["--app=bench/timed", "--engine=timed", "--runner-name=a"]
        );
    }

    #[test]
    fn a_models_folder_is_made_absolute() {
        let flags = WorkerOptions::diffusion("a", "warmq/diffusion", "models").flags();
        assert!(
            flags.iter().any(|flag| flag.starts_with("--models=/")),
            "{flags:?}"
        );
    }
}
