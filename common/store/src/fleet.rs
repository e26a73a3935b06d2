//! The fleet: registration, heartbeats, reports and removal of runners.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use redis::AsyncCommands;
use serde_json::Value;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::runner::RunnerRecord;

use super::stats::STATS_OF_APP;
use super::{Error, Fleet};

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

/// Numbers of an app's runners and jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runners whose lease has not been found lapsed.
    pub live: u64,
    /// Those that take no jobs until their self-test passes.
    pub faulty: u64,
    /// Those that take no further job and leave; none of them counts as faulty.
    pub draining: u64,
    /// Those that can be claimed.
    pub idle: u64,
    /// Jobs that no runner has started yet.
    pub queued: u64,
}

impl Counts {
    /// Returns the number of runners that take jobs.
    pub fn healthy(&self) -> u64 {
        self.live.saturating_sub(self.faulty + self.draining)
    }
}

/// Load of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppLoad {
    /// Numbers of its runners and jobs.
    pub counts: Counts,
    /// The leader's statistics of the whole app, JSON; `None` before the first.
    pub statistics: Option<String>,
}

/// Stands for any model among those of an app: no hint is empty.
const ANY_MODEL: &str = "";

/// Time that a model stays known after a runner listed it. Its jobs wait so long for another
/// runner.
const MODELS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Maximum number of apps or runners per command or pipeline.
const CHUNK: usize = 250;

impl Fleet<'_> {
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
        self.remember_models(app, &registration.models).await?;
        self.apps_in_use().remember_app(app).await
    }

    /// Adds these models of a runner, [`ANY_MODEL`] if it lists none, to those of the app, and
    /// forgets those not listed for [`MODELS_KEPT`]. To be repeated well within that time.
    pub async fn remember_models(self, app: &AppId, models: &[Hint]) -> Result<(), Error> {
        let now_ms = self.now_ms().await?;
        let key = self.keys.models(app);
        let oldest_ms = now_ms.saturating_sub(MODELS_KEPT.as_millis() as u64);
        let mut pipeline = redis::pipe();
        pipeline.zrembyscore(&key, "-inf", oldest_ms).ignore();
        if models.is_empty() {
            pipeline.zadd(&key, ANY_MODEL, now_ms).ignore();
        }
        for model in models {
            pipeline.zadd(&key, model.as_str(), now_ms).ignore();
        }
        let mut connection = self.connection.clone();
        let _: () = pipeline.query_async(&mut connection).await?;
        Ok(())
    }

    /// Returns the models that a runner of the app can load, or recently could.
    pub async fn models(self, app: &AppId) -> Result<Vec<Hint>, Error> {
        let names = self.model_names(app).await?;
        let names = names.iter().filter_map(|name| Hint::parse(name).ok());
        Ok(names.collect())
    }

    /// Returns the models as [`Self::models`] does; `None` if a runner can load any, or recently
    /// could, or no runner has registered.
    pub async fn all_models(self, app: &AppId) -> Result<Option<BTreeSet<Hint>>, Error> {
        let names = self.model_names(app).await?;
        if names.is_empty() || names.iter().any(|name| name == ANY_MODEL) {
            return Ok(None);
        }
        let names = names.iter().filter_map(|name| Hint::parse(name).ok());
        Ok(Some(names.collect()))
    }

    /// Returns the names of the models, [`ANY_MODEL`] among them.
    async fn model_names(self, app: &AppId) -> Result<Vec<String>, Error> {
        let key = self.keys.models(app);
        Ok(self.connection.clone().zrange(key, 0, -1).await?)
    }

    /// Returns whether a runner of the app can load the model, or recently could.
    pub async fn is_model_known(self, app: &AppId, model: &Hint) -> Result<bool, Error> {
        let key = self.keys.models(app);
        let since: Option<u64> = (self.connection.clone())
            .zscore(key, model.as_str())
            .await?;
        Ok(since.is_some())
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
        let mut invocation = self.scripts.report.prepare_invoke();
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
        let mut invocation = self.scripts.leave.prepare_invoke();
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

    /// Returns the apps with a live or past worker.
    pub async fn apps(self) -> Result<BTreeSet<AppId>, Error> {
        let names: Vec<String> = self.connection.clone().smembers(self.keys.apps()).await?;
        Ok(names
            .iter()
            .filter_map(|name| AppId::parse(name).ok())
            .collect())
    }

    /// Returns whether a worker ever registered for the app.
    pub async fn has_app(self, app: &AppId) -> Result<bool, Error> {
        Ok(self
            .connection
            .clone()
            .sismember(self.keys.apps(), app.as_str())
            .await?)
    }

    /// Returns the JSON Schema of the app's input, as its workers published it; `None` before the
    /// first worker.
    ///
    /// # Errors
    /// Redis is unreachable, or the schema is not JSON.
    pub async fn schema(self, app: &AppId) -> Result<Option<Value>, Error> {
        let key = self.keys.schema(app);
        let schema: Option<String> = self.connection.clone().get(&key).await?;
        schema
            .map(|text| serde_json::from_str(&text).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Returns the schemas of those of `apps` that have one.
    ///
    /// # Errors
    /// Redis is unreachable, or a schema is not JSON.
    pub async fn schemas(self, apps: &[AppId]) -> Result<Vec<(AppId, Value)>, Error> {
        let mut found = Vec::new();
        for chunk in apps.chunks(CHUNK) {
            let keys: Vec<String> = chunk.iter().map(|app| self.keys.schema(app)).collect();
            let mut connection = self.connection.clone();
            let texts: Vec<Option<String>> = connection.mget(&keys).await?;
            for ((app, key), text) in chunk.iter().zip(&keys).zip(texts) {
                if let Some(text) = text {
                    let schema = serde_json::from_str(&text);
                    found.push((
                        app.clone(),
                        schema.map_err(|error| Error::damaged(key, error))?,
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Returns the app's live runners, in alphabetical order.
    pub async fn runners(self, app: &AppId) -> Result<Vec<RunnerRecord>, Error> {
        self.runners_of(std::slice::from_ref(app)).await
    }

    /// Returns the live runners of `apps`, by app and name. Two round trips per some hundred of
    /// each.
    pub async fn runners_of(self, apps: &[AppId]) -> Result<Vec<RunnerRecord>, Error> {
        let mut connection = self.connection.clone();
        let mut live: Vec<(&AppId, RunnerId, u64)> = Vec::new();
        for chunk in apps.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for app in chunk {
                pipeline.zrange_withscores(self.keys.runners(app), 0, -1);
            }
            let leases: Vec<Vec<(String, u64)>> = pipeline.query_async(&mut connection).await?;
            for (app, leases) in chunk.iter().zip(leases) {
                let named = leases.into_iter().filter_map(|(name, lease_until_ms)| {
                    Some((app, RunnerId::parse(&name).ok()?, lease_until_ms))
                });
                live.extend(named);
            }
        }
        let mut runners = Vec::with_capacity(live.len());
        for chunk in live.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for (app, runner, _) in chunk {
                pipeline.hgetall(self.keys.runner(app, runner));
                pipeline.sismember(self.keys.idle(app), runner.as_str());
            }
            let replies: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
            for ((app, runner, lease_until_ms), reply) in chunk.iter().zip(replies.chunks(2)) {
                let (fields, idle) = read::<(HashMap<String, String>, bool)>(reply)?;
                // It may have left between the two reads.
                let runner = runner.clone();
                runners.extend(runner_record(app, runner, &fields, idle, *lease_until_ms));
            }
        }
        runners.sort_by(|a, b| (&a.app, &a.id).cmp(&(&b.app, &b.id)));
        Ok(runners)
    }

    /// Returns the numbers of an app's runners and jobs.
    pub async fn counts(self, app: &AppId) -> Result<Counts, Error> {
        let loads = self.loads(std::slice::from_ref(app)).await?;
        Ok(loads.first().map(|load| load.counts).unwrap_or_default())
    }

    /// Returns the load of each of `apps`. One round trip per some hundred apps.
    pub async fn loads(self, apps: &[AppId]) -> Result<Vec<AppLoad>, Error> {
        let mut loads = Vec::with_capacity(apps.len());
        for chunk in apps.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for app in chunk {
                pipeline
                    .zcard(self.keys.runners(app))
                    .scard(self.keys.faulty(app))
                    .scard(self.keys.draining(app))
                    .scard(self.keys.idle(app))
                    .zcard(self.keys.queued(app))
                    .hget(self.keys.stats(app), STATS_OF_APP);
            }
            let mut connection = self.connection.clone();
            let replies: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
            for reply in replies.chunks(6) {
                let (live, faulty, draining, idle, queued, statistics) = read(reply)?;
                let counts = Counts {
                    live,
                    faulty,
                    draining,
                    idle,
                    queued,
                };
                loads.push(AppLoad { counts, statistics });
            }
        }
        Ok(loads)
    }
}

/// Parses consecutive replies of a pipeline as one value.
fn read<T: redis::FromRedisValue>(replies: &[redis::Value]) -> Result<T, Error> {
    let replies = redis::Value::Array(replies.to_vec());
    Ok(redis::from_redis_value(replies).map_err(redis::RedisError::from)?)
}

fn hints_json(hints: &[Hint]) -> String {
    serde_json::to_string(hints).unwrap_or_else(|_| "[]".to_owned())
}

pub(super) fn parse_hints(json: &str) -> Vec<Hint> {
    serde_json::from_str(json).unwrap_or_default()
}

fn runner_record(
    app: &AppId,
    id: RunnerId,
    fields: &HashMap<String, String>,
    idle: bool,
    lease_until_ms: u64,
) -> Option<RunnerRecord> {
    let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    Some(RunnerRecord {
        id,
        app: app.clone(),
        epoch: Epoch(fields.get("epoch")?.parse().ok()?),
        host: text("host"),
        pid: u32::try_from(number("pid")).unwrap_or(0),
        engine: text("engine"),
        device: text("device"),
        memory_budget_bytes: number("memory_budget_bytes"),
        memory_bytes: number("memory_bytes"),
        hints: parse_hints(&text("hints")),
        slots: u32::try_from(number("slots")).unwrap_or(u32::MAX),
        ram_budget_bytes: number("ram_budget_bytes"),
        ram_bytes: number("ram_bytes"),
        ram_hints: parse_hints(&text("ram_hints")),
        pinned: parse_hints(&text("pinned")),
        idle,
        job: text("job").parse().ok(),
        draining: fields.contains_key("draining"),
        since_ms: number("since_ms"),
        lease_until_ms,
        fault: fields.get("fault").cloned(),
        fault_since_ms: fields
            .get("fault_since_ms")
            .and_then(|text| text.parse().ok()),
    })
}
