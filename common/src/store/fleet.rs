//! The runners: who lives, what each reports, who leads an app.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Store};
use crate::hint::Hint;
use crate::ids::{AppId, Epoch, JobId, RunnerId};
use crate::job::Timings;

/// What a runner can serve now; refreshed after every job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerReport {
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// What they hold, bytes.
    pub memory_bytes: u64,
    /// How many models the runner can hold at once, as far as it knows.
    pub slots: u32,
}

/// What a runner says of itself when it joins.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its app.
    pub app: AppId,
    /// Its id.
    pub runner: RunnerId,
    /// This incarnation.
    pub epoch: Epoch,
    /// The machine that it is on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// What runs its jobs: `diffusion`, `timed`.
    pub engine: String,
    /// Where tensors live: `cpu`, `cuda:0`.
    pub device: String,
    /// How much its models may hold, bytes.
    pub memory_budget_bytes: u64,
    /// What it holds already.
    pub report: RunnerReport,
}

/// A live runner, as `/v1/runners` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunnerRecord {
    /// Its id.
    pub id: RunnerId,
    /// Its app.
    pub app: AppId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// The machine that it is on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// What runs its jobs.
    pub engine: String,
    /// Where tensors live.
    pub device: String,
    /// How much its models may hold, bytes.
    pub memory_budget_bytes: u64,
    /// What they hold, bytes.
    pub memory_bytes: u64,
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// How many models it can hold at once, as far as it knows.
    #[serde(default)]
    pub slots: u32,
    /// It waits for a job.
    pub idle: bool,
    /// The job that it runs or was claimed for.
    pub job: Option<JobId>,
    /// When it joined, Unix ms.
    pub since_ms: u64,
    /// When it counts as lost unless heard of, Unix ms.
    pub lease_until_ms: u64,
}

/// What a run taught about its model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The job's hint: the model.
    pub hint: Hint,
    /// Whether the model was loaded already, and how long load and run took.
    #[serde(flatten)]
    pub timings: Timings,
}

/// A runner that can be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeRunner {
    /// Which one.
    pub runner: RunnerId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// How often this incarnation came free: tells old news from new.
    pub frees: u64,
    /// How many models it can hold at once, as far as it knows.
    pub slots: u32,
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// The run that it finished just now, if it succeeded.
    #[serde(default)]
    pub ran: Option<Ran>,
}

/// Something that happened to a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Change {
    /// It can be claimed: it is new, or done with its job.
    Freed(FreeRunner),
    /// It took a job from the shared queue.
    Taken {
        /// Which one.
        runner: RunnerId,
        /// Its incarnation.
        epoch: Epoch,
        /// [`FreeRunner::frees`] while it was free.
        frees: u64,
    },
    /// It said goodbye, or its lease lapsed.
    Gone {
        /// Which one.
        runner: RunnerId,
        /// Its incarnation.
        epoch: Epoch,
    },
}

/// Changes of one app's runners, as they happen. Some may be missed: re-read what matters now and then.
pub struct Changes(redis::aio::PubSub);

impl Changes {
    /// The next one; `None` once the connection broke.
    pub async fn next(&mut self) -> Option<Change> {
        let mut messages = self.0.on_message();
        loop {
            let text: String = messages.next().await?.get_payload().unwrap_or_default();
            match serde_json::from_str(&text) {
                Ok(change) => return Some(change),
                Err(error) => tracing::debug!(%error, text, "not a change of a runner"),
            }
        }
    }
}

/// Whether a live runner can be claimed, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// Which one.
    pub runner: RunnerId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// See [`FreeRunner::frees`].
    pub frees: u64,
    /// It can be claimed.
    pub idle: bool,
}

/// How much there is of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runners whose lease has not lapsed, or not been found lapsed.
    pub live: u64,
    /// Those that can be claimed.
    pub idle: u64,
    /// Jobs that no runner has started yet.
    pub queued: u64,
}

impl Store {
    /// A runner joins, idle, with the input schema of its app.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn register(
        &self,
        registration: &Registration,
        schema: &Value,
        lease: Duration,
    ) -> Result<(), Error> {
        let app = &registration.app;
        let mut connection = self.connection.clone();
        // An earlier incarnation that did not take leave may stand in the sets of other hints.
        self.remove(app, &registration.runner, None, "left").await?;
        let _: () = connection
            .set(self.keys.schema(app), schema.to_string())
            .await?;
        let _: () = connection.sadd(self.keys.apps(), app.as_str()).await?;
        let mut invocation = self.scripts.register.prepare_invoke();
        invocation
            .key(self.keys.runner(app, &registration.runner))
            .key(self.keys.idle(app))
            .key(self.keys.runners(app))
            .key(self.keys.blank(app));
        for hint in &registration.report.hints {
            invocation.key(self.keys.hint(app, hint));
        }
        invocation
            .arg(registration.runner.as_str())
            .arg(lease.as_millis() as u64)
            .arg(self.keys.changes(app));
        for (field, value) in [
            ("epoch", registration.epoch.to_string()),
            ("host", registration.host.clone()),
            ("pid", registration.pid.to_string()),
            ("engine", registration.engine.clone()),
            ("device", registration.device.clone()),
            (
                "memory_budget_bytes",
                registration.memory_budget_bytes.to_string(),
            ),
            ("memory_bytes", registration.report.memory_bytes.to_string()),
            ("slots", registration.report.slots.to_string()),
            ("hints", hints_json(&registration.report.hints)),
        ] {
            invocation.arg(field).arg(value);
        }
        Ok(invocation.invoke_async(&mut connection).await?)
    }

    /// A runner lives. `busy` while it runs a job. False: it is registered no more.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn heartbeat(
        &self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
        lease: Duration,
        busy: bool,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .heartbeat
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.runners(app))
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(lease.as_millis() as u64)
            .arg(u8::from(busy))
            .arg(self.keys.changes(app))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// A runner says goodbye.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn leave(&self, app: &AppId, runner: &RunnerId, epoch: Epoch) -> Result<(), Error> {
        self.remove(app, runner, Some(epoch), "left").await?;
        Ok(())
    }

    /// Removes the runners whose lease lapsed, and names them.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn reap(&self, app: &AppId) -> Result<Vec<RunnerId>, Error> {
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

    /// Takes a runner out of every set; `epoch`: only that incarnation.
    async fn remove(
        &self,
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
            let _: () = connection
                .zrem(self.keys.runners(app), runner.as_str())
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
            .key(self.keys.suspects(app))
            .key(self.keys.ended(app));
        for hint in parse_hints(&hints) {
            invocation.key(self.keys.hint(app, &hint));
        }
        invocation
            .arg(runner.as_str())
            .arg(epoch.map_or(found, |epoch| epoch.to_string()))
            .arg(how)
            .arg(hints)
            .arg(self.keys.changes(app));
        Ok(invocation.invoke_async(&mut connection).await?)
    }

    /// Apps with a live or past worker.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn apps(&self) -> Result<BTreeSet<AppId>, Error> {
        let names: Vec<String> = self.connection.clone().smembers(self.keys.apps()).await?;
        Ok(names
            .iter()
            .filter_map(|name| AppId::parse(name).ok())
            .collect())
    }

    /// Whether a worker ever registered for the app.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn has_app(&self, app: &AppId) -> Result<bool, Error> {
        Ok(self
            .connection
            .clone()
            .sismember(self.keys.apps(), app.as_str())
            .await?)
    }

    /// The JSON Schema of the app's input, as its workers published it; `None` before the first worker came.
    ///
    /// # Errors
    /// Redis is away, or the schema is no JSON.
    pub async fn schema(&self, app: &AppId) -> Result<Option<Value>, Error> {
        let key = self.keys.schema(app);
        let schema: Option<String> = self.connection.clone().get(&key).await?;
        schema
            .map(|text| serde_json::from_str(&text).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// The app's live runners, in alphabetical order.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn runners(&self, app: &AppId) -> Result<Vec<RunnerRecord>, Error> {
        let mut connection = self.connection.clone();
        let leases: Vec<(String, u64)> = connection
            .zrange_withscores(self.keys.runners(app), 0, -1)
            .await?;
        let mut runners = Vec::with_capacity(leases.len());
        for (name, lease_until_ms) in leases {
            let Ok(id) = RunnerId::parse(&name) else {
                continue;
            };
            let (fields, idle): (HashMap<String, String>, bool) = redis::pipe()
                .hgetall(self.keys.runner(app, &id))
                .sismember(self.keys.idle(app), &name)
                .query_async(&mut connection)
                .await?;
            // It may have left between the two reads.
            runners.extend(runner_record(app, id, &fields, idle, lease_until_ms));
        }
        runners.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(runners)
    }

    /// Which runners live and which of them can be claimed, read in one step.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn pulses(&self, app: &AppId) -> Result<Vec<Pulse>, Error> {
        let mut connection = self.connection.clone();
        let names: Vec<String> = connection.zrange(self.keys.runners(app), 0, -1).await?;
        let runners: Vec<RunnerId> = names
            .iter()
            .filter_map(|name| RunnerId::parse(name).ok())
            .collect();
        let mut pipeline = redis::pipe();
        pipeline.atomic().smembers(self.keys.idle(app));
        for runner in &runners {
            pipeline.hmget(self.keys.runner(app, runner), &["epoch", "frees"]);
        }
        let mut replies: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
        let known = replies.split_off(1.min(replies.len()));
        let idle: HashSet<String> = match replies.pop() {
            Some(reply) => redis::from_redis_value(reply).map_err(redis::RedisError::from)?,
            None => HashSet::new(),
        };
        let mut pulses = Vec::with_capacity(runners.len());
        for (runner, reply) in runners.into_iter().zip(known) {
            let (epoch, frees): (Option<u64>, Option<u64>) =
                redis::from_redis_value(reply).map_err(redis::RedisError::from)?;
            // It may have left between the two reads.
            pulses.extend(epoch.map(|epoch| Pulse {
                idle: idle.contains(runner.as_str()),
                runner,
                epoch: Epoch(epoch),
                frees: frees.unwrap_or(0),
            }));
        }
        Ok(pulses)
    }

    /// How much there is of the app.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn counts(&self, app: &AppId) -> Result<Counts, Error> {
        let (live, idle, queued) = redis::pipe()
            .zcard(self.keys.runners(app))
            .scard(self.keys.idle(app))
            .zcard(self.keys.queued(app))
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(Counts { live, idle, queued })
    }

    /// A live runner as it stands now, and whether it can be claimed; `None` when it is gone.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn standing(
        &self,
        app: &AppId,
        runner: &RunnerId,
    ) -> Result<Option<(FreeRunner, bool)>, Error> {
        type Fields = (Option<u64>, Option<u64>, Option<u32>, Option<String>);
        let (known, idle): (Fields, bool) = redis::pipe()
            .atomic()
            .hmget(
                self.keys.runner(app, runner),
                &["epoch", "frees", "slots", "hints"],
            )
            .sismember(self.keys.idle(app), runner.as_str())
            .query_async(&mut self.connection.clone())
            .await?;
        let (Some(epoch), frees, slots, hints) = known else {
            return Ok(None);
        };
        let free = FreeRunner {
            runner: runner.clone(),
            epoch: Epoch(epoch),
            frees: frees.unwrap_or(0),
            slots: slots.unwrap_or(1),
            hints: parse_hints(&hints.unwrap_or_default()),
            ran: None,
        };
        Ok(Some((free, idle)))
    }

    /// Follows the app's runners from now on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn changes(&self, app: &AppId) -> Result<Changes, Error> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(self.keys.changes(app)).await?;
        Ok(Changes(subscription))
    }

    /// Takes or keeps the leadership of `app` for `lease`. True while `who` leads.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn lead(&self, app: &AppId, who: &str, lease: Duration) -> Result<bool, Error> {
        Ok(self
            .scripts
            .lead
            .key(self.keys.leader(app))
            .arg(who)
            .arg(lease.as_millis() as u64)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Gives the leadership of `app` up, if `who` has it.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn stop_leading(&self, app: &AppId, who: &str) -> Result<(), Error> {
        self.lead(app, who, Duration::ZERO).await?;
        Ok(())
    }
}

fn hints_json(hints: &[Hint]) -> String {
    serde_json::to_string(hints).unwrap_or_else(|_| "[]".to_owned())
}

fn parse_hints(json: &str) -> Vec<Hint> {
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
        idle,
        job: text("job").parse().ok(),
        since_ms: number("since_ms"),
        lease_until_ms,
    })
}
