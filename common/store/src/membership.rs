//! Membership of runners: registration, heartbeats, reports and removal.

use std::time::Duration;

use redis::AsyncCommands;
use serde_json::Value;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};

use super::{Error, Membership};

/// What a runner has loaded, refreshed after every job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerReport {
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// Memory of the loaded models, bytes.
    pub memory_bytes: u64,
    /// Number of models that it can hold at once: the loaded ones, then the largest others.
    pub slots: u32,
    /// Evicted models in host memory, least recently used first.
    pub ram_hints: Vec<Hint>,
    /// Host memory of those models, bytes.
    pub ram_bytes: u64,
    /// Number of models that host memory can hold: those in it, then the largest others.
    pub ram_slots: u32,
    /// Models that are never evicted.
    pub pinned: Vec<Hint>,
}

impl RunnerReport {
    /// Returns the fields of the runner's hash.
    pub(super) fn fields(&self) -> [(&'static str, String); 7] {
        [
            ("hints", hints_json(&self.hints)),
            ("memory_bytes", self.memory_bytes.to_string()),
            ("slots", self.slots.to_string()),
            ("ram_hints", hints_json(&self.ram_hints)),
            ("ram_bytes", self.ram_bytes.to_string()),
            ("ram_slots", self.ram_slots.to_string()),
            ("pinned", hints_json(&self.pinned)),
        ]
    }

    /// Returns the hints of `reported` that are no longer loaded.
    pub fn left<'a>(&self, reported: &'a [Hint]) -> Vec<&'a Hint> {
        let left = reported.iter().filter(|hint| !self.hints.contains(hint));
        left.collect()
    }
}

/// Registration of a runner's incarnation.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The app whose jobs it runs.
    pub app: AppId,
    /// Runner id.
    pub runner: RunnerId,
    /// Epoch of this incarnation.
    pub epoch: Epoch,
    /// Host name of its machine.
    pub host: String,
    /// Process id on that machine.
    pub pid: u32,
    /// Random id of the process: distinguishes a restart from a second worker of the same name.
    pub instance: String,
    /// Name of the engine: `diffusion`, `timed`.
    pub engine: String,
    /// Device of its tensors: `cpu`, `cuda:0`.
    pub device: String,
    /// Memory budget for loaded models, bytes.
    pub memory_budget_bytes: u64,
    /// Budget of host memory for evicted models, bytes.
    pub ram_budget_bytes: u64,
    /// Catalog: the models that it can load; empty for any.
    pub models: Vec<Hint>,
    /// What it has loaded already.
    pub report: RunnerReport,
}

impl Registration {
    /// Returns the fields of the runner's hash.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("epoch", self.epoch.to_string()),
            ("host", self.host.clone()),
            ("pid", self.pid.to_string()),
            ("instance", self.instance.clone()),
            ("engine", self.engine.clone()),
            ("device", self.device.clone()),
            ("memory_budget_bytes", self.memory_budget_bytes.to_string()),
            ("ram_budget_bytes", self.ram_budget_bytes.to_string()),
            ("models", hints_json(&self.models)),
        ];
        fields.extend(self.report.fields());
        fields
    }
}

/// Who consumes an app's shared queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedQueueConsumer {
    /// The leader, with policy `warm`: it dispatches what an outage of Redis left there.
    Leader,
    /// The idle runners: with policy `fal`, and without a leader.
    Runners,
}

/// Answer to a heartbeat of a registered runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who consumes the shared queue.
    pub shared_queue: SharedQueueConsumer,
    /// Whether changes of its models are queued.
    pub has_model_changes: bool,
    /// Whether it drains: it takes no further job and leaves.
    pub is_draining: bool,
}

impl Membership<'_> {
    /// Registers an incarnation, idle unless it drains, with the input schema of its app.
    pub async fn register(
        self,
        registration: &Registration,
        schema: &Value,
        lease: Duration,
    ) -> Result<(), Error> {
        let app = &registration.app;
        let mut connection = self.connection.clone();
        self.introduce(registration, schema).await?;
        let mut invocation = self.scripts.register.prepare_invoke();
        invocation
            .key(self.keys.runner(app, &registration.runner))
            .key(self.keys.idle(app))
            .key(self.keys.runners(app))
            .key(self.keys.blank(app))
            .key(self.keys.drain_request(app, &registration.runner))
            .key(self.keys.draining(app));
        for hint in &registration.report.hints {
            invocation.key(self.keys.hint(app, hint));
        }
        invocation
            .arg(registration.runner.as_str())
            .arg(lease.as_millis() as u64)
            .arg(self.keys.runner_events(app));
        for (field, value) in registration.fields() {
            invocation.arg(field).arg(value);
        }
        Ok(invocation.invoke_async(&mut connection).await?)
    }

    /// Writes what every registration contains, and removes the runner's earlier incarnation, which
    /// may remain in the sets of other models.
    pub(super) async fn introduce(
        self,
        registration: &Registration,
        schema: &Value,
    ) -> Result<(), Error> {
        let app = &registration.app;
        let mut connection = self.connection.clone();
        self.remove(app, &registration.runner, None, "left").await?;
        let _: () = connection
            .set(self.keys.schema(app), schema.to_string())
            .await?;
        self.published()
            .remember_models(app, &registration.models)
            .await?;
        self.apps_in_use().remember_app(app).await
    }

    /// Renews a runner's lease. `busy` while it runs a job or changes its models. Returns `None` if
    /// the runner is no longer registered.
    pub async fn heartbeat(
        self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
        lease: Duration,
        busy: bool,
    ) -> Result<Option<Heartbeat>, Error> {
        let (consumer, has_model_changes, is_draining): (String, bool, bool) = self
            .scripts
            .heartbeat
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.runners(app))
            .key(self.keys.leader(app))
            .key(self.keys.leader_policy(app))
            .key(self.keys.model_changes(app, runner))
            .key(self.keys.drain_request(app, runner))
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(lease.as_millis() as u64)
            .arg(u8::from(busy))
            .arg(self.keys.runner_events(app))
            .invoke_async(&mut self.connection.clone())
            .await?;
        let shared_queue = match consumer.as_str() {
            "leader" => SharedQueueConsumer::Leader,
            "runners" => SharedQueueConsumer::Runners,
            _ => return Ok(None),
        };
        Ok(Some(Heartbeat {
            shared_queue,
            has_model_changes,
            is_draining,
        }))
    }

    /// Stores the models of a runner that changed them between its jobs. `reported`: what it
    /// reported before. Returns whether the runner is still registered.
    pub async fn report(
        self,
        app: &AppId,
        (runner, epoch): (&RunnerId, Epoch),
        reported: &[Hint],
        report: &RunnerReport,
    ) -> Result<bool, Error> {
        let hints = &report.hints;
        let left = report.left(reported);
        let mut invocation = self.scripts.report_models.prepare_invoke();
        invocation
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.blank(app));
        for hint in left.iter().copied().chain(hints) {
            invocation.key(self.keys.hint(app, hint));
        }
        invocation
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(hints.len())
            .arg(left.len())
            .arg(self.keys.runner_events(app));
        for (field, value) in report.fields() {
            invocation.arg(field).arg(value);
        }
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Requests that a runner takes no further job, ends the one that it has, and leaves. Returns
    /// false if it is not registered.
    pub async fn drain(self, app: &AppId, runner: &RunnerId) -> Result<bool, Error> {
        Ok(self
            .scripts
            .drain
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.drain_request(app, runner))
            .key(self.keys.draining(app))
            .key(self.keys.faulty(app))
            .arg(runner.as_str())
            .arg(self.keys.runner_events(app))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Removes a runner that stops.
    pub async fn leave(self, app: &AppId, runner: &RunnerId, epoch: Epoch) -> Result<(), Error> {
        self.remove(app, runner, Some(epoch), "left").await?;
        Ok(())
    }

    /// Removes the runners whose lease lapsed, and returns them.
    pub async fn reap(self, app: &AppId) -> Result<Vec<RunnerId>, Error> {
        let now_ms = self.now_ms().await?;
        let lapsed: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore(self.keys.runners(app), "-inf", now_ms)
            .await?;
        let mut lost = Vec::new();
        for runner in lapsed.iter().filter_map(|name| RunnerId::parse(name).ok()) {
            if self.remove(app, &runner, None, "lost").await? {
                lost.push(runner);
            }
        }
        Ok(lost)
    }

    /// Returns the time until the first lease of the app's runners lapses; zero if one has, `None`
    /// without runners.
    pub async fn first_lapse(self, app: &AppId) -> Result<Option<Duration>, Error> {
        let ((now_s, now_us), first): ((u64, u64), Vec<(String, u64)>) = redis::pipe()
            .cmd("TIME")
            .zrange_withscores(self.keys.runners(app), 0, 0)
            .query_async(&mut self.connection.clone())
            .await?;
        let now_ms = now_s * 1000 + now_us / 1000;
        let left = first
            .first()
            .map(|(_, until_ms)| until_ms.saturating_sub(now_ms));
        Ok(left.map(Duration::from_millis))
    }

    /// Removes a runner from every set; with `epoch`, only that incarnation.
    async fn remove(
        self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Option<Epoch>,
        how: &str,
    ) -> Result<bool, Error> {
        let mut connection = self.connection.clone();
        let key = self.keys.runner(app, runner);
        let (found, hints): (Option<String>, Option<String>) =
            connection.hmget(&key, &["epoch", "hints"]).await?;
        let Some(found) = found else {
            // The hash is gone and only the lease is left.
            let _: () = redis::pipe()
                .zrem(self.keys.runners(app), runner.as_str())
                .srem(self.keys.faulty(app), runner.as_str())
                .srem(self.keys.draining(app), runner.as_str())
                .query_async(&mut connection)
                .await?;
            return Ok(false);
        };
        let hints = hints.unwrap_or_else(|| "[]".to_owned());
        let mut invocation = self.scripts.remove_runner.prepare_invoke();
        invocation
            .key(key)
            .key(self.keys.idle(app))
            .key(self.keys.runners(app))
            .key(self.keys.blank(app))
            .key(self.keys.lost_runner_jobs(app))
            .key(self.keys.ended(app))
            .key(self.keys.faulty(app))
            .key(self.keys.draining(app));
        for hint in parse_hints(&hints) {
            invocation.key(self.keys.hint(app, &hint));
        }
        invocation
            .arg(runner.as_str())
            .arg(epoch.map_or(found, |epoch| epoch.to_string()))
            .arg(how)
            .arg(hints)
            .arg(self.keys.runner_events(app));
        Ok(invocation.invoke_async(&mut connection).await?)
    }
}

fn hints_json(hints: &[Hint]) -> String {
    serde_json::to_string(hints).unwrap_or_else(|_| "[]".to_owned())
}

pub(super) fn parse_hints(json: &str) -> Vec<Hint> {
    serde_json::from_str(json).unwrap_or_default()
}
