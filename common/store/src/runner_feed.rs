//! Events of runners for dispatchers, and the state of all runners, since events may be lost.

use std::collections::HashSet;

use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, JobId, RunnerId};
use warmq_types::job::Timings;

use super::membership::parse_hints;
use super::subscriptions::Subscription;
use super::{Error, RunnerFeed};

/// Measurements of a run, for the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The job's hint: the model.
    pub hint: Hint,
    /// Whether the run was warm, and the durations of load and run.
    #[serde(flatten)]
    pub timings: Timings,
}

/// A runner that can be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeRunner {
    /// Runner id.
    pub runner: RunnerId,
    /// Epoch of its incarnation.
    pub epoch: Epoch,
    /// Number of times that this incarnation came free: orders its events.
    pub frees: u64,
    /// Number of models that it can hold at once: the loaded ones, then the largest others.
    pub slots: u32,
    /// Loaded models, least recently used first.
    pub hints: Vec<Hint>,
    /// Number of models that its host memory can hold; 0 without a budget.
    #[serde(default)]
    pub ram_slots: u32,
    /// Evicted models in host memory, least recently used first.
    #[serde(default)]
    pub ram_hints: Vec<Hint>,
    /// The run that it just finished, if it succeeded.
    #[serde(default)]
    pub ran: Option<Ran>,
    /// Its catalog, empty for any model; sent at registration.
    #[serde(default)]
    pub models: Option<Vec<Hint>>,
}

/// Event of a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum RunnerEvent {
    /// It can be claimed: it registered, or finished its job.
    Freed(FreeRunner),
    /// It took a job from the shared queue.
    Taken {
        /// Runner id.
        runner: RunnerId,
        /// Epoch of its incarnation.
        epoch: Epoch,
        /// [`FreeRunner::frees`] while it was free.
        frees: u64,
    },
    /// It left, drains, or its lease lapsed.
    Gone {
        /// Runner id.
        runner: RunnerId,
        /// Epoch of its incarnation.
        epoch: Epoch,
    },
    /// An attempt failed by the runner's fault.
    Faulted {
        /// Runner id.
        runner: RunnerId,
        /// Epoch of its incarnation.
        epoch: Epoch,
        /// Class of the fault.
        kind: FaultKind,
    },
}

/// Stream of the events of an app's runners. Some may be lost: read the runners' state now and
/// then.
pub struct RunnerEvents(Subscription);

impl RunnerEvents {
    /// Returns the next one; `None` once the connection broke.
    pub async fn next(&mut self) -> Option<RunnerEvent> {
        loop {
            let text = self.0.next().await?;
            match serde_json::from_str(&text) {
                Ok(event) => return Some(event),
                Err(error) => tracing::debug!(%error, text, "not an event of a runner"),
            }
        }
    }
}

/// Whether a live runner can be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerAvailability {
    /// Runner id.
    pub runner: RunnerId,
    /// Epoch of its incarnation.
    pub epoch: Epoch,
    /// See [`FreeRunner::frees`].
    pub frees: u64,
    /// Whether it can be claimed.
    pub idle: bool,
}

impl RunnerFeed<'_> {
    /// Returns all runners that take jobs and whether they can be claimed, read in one step; faulty
    /// and draining ones are omitted.
    pub async fn availability(self, app: &AppId) -> Result<Vec<RunnerAvailability>, Error> {
        let mut connection = self.connection.clone();
        let names: Vec<String> = connection.zrange(self.keys.runners(app), 0, -1).await?;
        let runners: Vec<RunnerId> = names
            .iter()
            .filter_map(|name| RunnerId::parse(name).ok())
            .collect();
        let mut pipeline = redis::pipe();
        pipeline.atomic().smembers(self.keys.idle(app));
        for runner in &runners {
            pipeline.hmget(
                self.keys.runner(app, runner),
                &["epoch", "frees", "fault", "draining"],
            );
        }
        let mut replies: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
        let known = replies.split_off(1.min(replies.len()));
        let idle: HashSet<String> = match replies.pop() {
            Some(reply) => redis::from_redis_value(reply).map_err(redis::RedisError::from)?,
            None => HashSet::new(),
        };
        let mut availabilities = Vec::with_capacity(runners.len());
        for (runner, reply) in runners.into_iter().zip(known) {
            type Fields = (Option<u64>, Option<u64>, Option<String>, Option<String>);
            let (epoch, frees, fault, draining): Fields =
                redis::from_redis_value(reply).map_err(redis::RedisError::from)?;
            let takes_jobs = fault.is_none() && draining.is_none();
            // It may have left between the two reads.
            availabilities.extend(
                epoch
                    .filter(|_| takes_jobs)
                    .map(|epoch| RunnerAvailability {
                        idle: idle.contains(runner.as_str()),
                        runner,
                        epoch: Epoch(epoch),
                        frees: frees.unwrap_or(0),
                    }),
            );
        }
        Ok(availabilities)
    }

    /// Returns a live runner's state, and whether it can be claimed; `None` if it is gone.
    pub async fn runner(
        self,
        app: &AppId,
        runner: &RunnerId,
    ) -> Result<Option<(FreeRunner, bool)>, Error> {
        type Fields = (
            Option<u64>,
            Option<u64>,
            Option<u32>,
            Option<String>,
            Option<String>,
            Option<u32>,
            Option<String>,
        );
        const FIELDS: [&str; 7] = [
            "epoch",
            "frees",
            "slots",
            "hints",
            "models",
            "ram_slots",
            "ram_hints",
        ];
        let (known, idle): (Fields, bool) = redis::pipe()
            .atomic()
            .hmget(self.keys.runner(app, runner), &FIELDS)
            .sismember(self.keys.idle(app), runner.as_str())
            .query_async(&mut self.connection.clone())
            .await?;
        let (Some(epoch), frees, slots, hints, models, ram_slots, ram_hints) = known else {
            return Ok(None);
        };
        let free = FreeRunner {
            runner: runner.clone(),
            epoch: Epoch(epoch),
            frees: frees.unwrap_or(0),
            slots: slots.unwrap_or(1),
            hints: parse_hints(&hints.unwrap_or_default()),
            ram_slots: ram_slots.unwrap_or(0),
            ram_hints: parse_hints(&ram_hints.unwrap_or_default()),
            ran: None,
            models: Some(parse_hints(&models.unwrap_or_default())),
        };
        Ok(Some((free, idle)))
    }

    /// Returns the job for which a runner is claimed or that it runs, if any.
    pub async fn current_job(self, app: &AppId, runner: &RunnerId) -> Result<Option<JobId>, Error> {
        let key = self.keys.runner(app, runner);
        let job: Option<String> = self.connection.clone().hget(&key, "job").await?;
        job.map(|job| job.parse().map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Subscribes to the events of the app's runners.
    pub async fn events(self, app: &AppId) -> Result<RunnerEvents, Error> {
        let channel = self.keys.runner_events(app);
        Ok(RunnerEvents(self.subscriptions.open(&channel).await?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_a_newer_build_are_read_with_what_it_adds() {
        let freed = json!({
            "what": "freed", "runner": "gpu-1", "epoch": 1, "frees": 2, "slots": 3, "hints": ["m"],
            "ran": {"hint": "m", "warm": true, "load_ms": 0, "run_ms": 4, "new": {}}, "new": [1]
        });
        let RunnerEvent::Freed(free) = serde_json::from_value(freed).unwrap() else {
            panic!("the runner came free");
        };
        assert_eq!(
            (free.frees, free.ran.map(|ran| ran.timings.run_ms)),
            (2, Some(4))
        );
        for event in [
            json!({"what": "taken", "runner": "gpu-1", "epoch": 1, "frees": 2, "new": 1}),
            json!({"what": "gone", "runner": "gpu-1", "epoch": 1, "new": 1}),
            json!({"what": "faulted", "runner": "gpu-1", "epoch": 1, "kind": "model", "new": 1}),
        ] {
            serde_json::from_value::<RunnerEvent>(event).unwrap();
        }
        // The stream skips it.
        let unknown = json!({"what": "dreams", "runner": "gpu-1", "epoch": 1});
        assert!(serde_json::from_value::<RunnerEvent>(unknown).is_err());
    }
}
