//! Lists of live runners, and the load of apps.

use std::collections::HashMap;

use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::runner::RunnerRecord;

use super::membership::parse_hints;
use super::stats::STATS_OF_APP;
use super::{Error, Runners};

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

/// Maximum number of apps or runners per command or pipeline.
const CHUNK: usize = 250;

impl Runners<'_> {
    /// Returns the app's live runners, in alphabetical order.
    pub async fn list(self, app: &AppId) -> Result<Vec<RunnerRecord>, Error> {
        self.list_of(std::slice::from_ref(app)).await
    }

    /// Returns the live runners of `apps`, by app and name. Two round trips per some hundred of
    /// each.
    pub async fn list_of(self, apps: &[AppId]) -> Result<Vec<RunnerRecord>, Error> {
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
