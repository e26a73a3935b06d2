//! Changes of runners' models on request: queued by routers, executed by runners between jobs.

use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::runner::ModelChange;

use super::record::json;
use super::{Error, ModelChanges, RunnerReport};

/// Lifetime of changes that no runner takes, s.
const KEPT_S: u64 = 3600;

impl ModelChanges<'_> {
    /// Queues a change. Returns false if the runner is not registered.
    pub async fn queue(
        self,
        app: &AppId,
        runner: &RunnerId,
        change: &ModelChange,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .queue_model_change
            .key(self.keys.runner(app, runner))
            .key(self.keys.model_changes(app, runner))
            .arg(json(change))
            .arg(KEPT_S)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Takes the next change of an idle runner, which cannot be claimed until
    /// [`ModelChanges::end`]. `None` if there is none, or if the runner was claimed for a job.
    ///
    /// # Errors
    /// Redis is unreachable, or the change is not JSON.
    pub async fn begin(
        self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
    ) -> Result<Option<ModelChange>, Error> {
        let key = self.keys.model_changes(app, runner);
        let change: Option<String> = self
            .scripts
            .begin_model_change
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(&key)
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(self.keys.runner_events(app))
            .invoke_async(&mut self.connection.clone())
            .await?;
        change
            .map(|text| ModelChange::from_queue(&text).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Stores a runner's models after a change, and makes it claimable. `reported`: its hints
    /// before. Returns false if it is no longer registered.
    pub async fn end(
        self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
        reported: &[Hint],
        report: &RunnerReport,
    ) -> Result<bool, Error> {
        let left = report.left(reported);
        let mut invocation = self.scripts.end_model_change.prepare_invoke();
        invocation
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.blank(app));
        for hint in left.iter().copied().chain(&report.hints) {
            invocation.key(self.keys.hint(app, hint));
        }
        invocation
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(report.hints.len())
            .arg(self.keys.runner_events(app))
            .arg(left.len());
        for (field, value) in report.fields() {
            invocation.arg(field).arg(value);
        }
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }
}
