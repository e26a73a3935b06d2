//! What dispatchers follow: runners that come free, take a job, go; and a look at all of them, since news may be missed.

use std::collections::HashSet;

use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::Timings;

use super::fleet::parse_hints;
use super::subscriptions::Subscription;
use super::{Error, Store};

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
    /// The models that it can load, empty for any; said when it joins.
    #[serde(default)]
    pub models: Option<Vec<Hint>>,
}

/// Something that happened to a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum RunnerEvent {
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
    /// An attempt failed by its fault.
    Faulted {
        /// Which one.
        runner: RunnerId,
        /// Its incarnation.
        epoch: Epoch,
        /// What failed.
        kind: FaultKind,
    },
}

/// RunnerEvents of one app's runners, as they happen. Some may be missed: re-read what matters now and then.
pub struct RunnerEvents(Subscription);

impl RunnerEvents {
    /// The next one; `None` once the connection broke.
    pub async fn next(&mut self) -> Option<RunnerEvent> {
        loop {
            let text = self.0.next().await?;
            match serde_json::from_str(&text) {
                Ok(change) => return Some(change),
                Err(error) => tracing::debug!(%error, text, "not a change of a runner"),
            }
        }
    }
}

/// Whether a live runner can be claimed, without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerAvailability {
    /// Which one.
    pub runner: RunnerId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// See [`FreeRunner::frees`].
    pub frees: u64,
    /// It can be claimed.
    pub idle: bool,
}

impl Store {
    /// Which runners take jobs and which of them can be claimed, read in one step. FaultReport ones are left out.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn runner_availability(&self, app: &AppId) -> Result<Vec<RunnerAvailability>, Error> {
        let mut connection = self.connection.clone();
        let names: Vec<String> = connection.zrange(self.keys.runners(app), 0, -1).await?;
        let runners: Vec<RunnerId> = names
            .iter()
            .filter_map(|name| RunnerId::parse(name).ok())
            .collect();
        let mut pipeline = redis::pipe();
        pipeline.atomic().smembers(self.keys.idle(app));
        for runner in &runners {
            pipeline.hmget(self.keys.runner(app, runner), &["epoch", "frees", "fault"]);
        }
        let mut replies: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
        let known = replies.split_off(1.min(replies.len()));
        let idle: HashSet<String> = match replies.pop() {
            Some(reply) => redis::from_redis_value(reply).map_err(redis::RedisError::from)?,
            None => HashSet::new(),
        };
        let mut pulses = Vec::with_capacity(runners.len());
        for (runner, reply) in runners.into_iter().zip(known) {
            let (epoch, frees, fault): (Option<u64>, Option<u64>, Option<String>) =
                redis::from_redis_value(reply).map_err(redis::RedisError::from)?;
            // It may have left between the two reads.
            pulses.extend(
                epoch
                    .filter(|_| fault.is_none())
                    .map(|epoch| RunnerAvailability {
                        idle: idle.contains(runner.as_str()),
                        runner,
                        epoch: Epoch(epoch),
                        frees: frees.unwrap_or(0),
                    }),
            );
        }
        Ok(pulses)
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
        type Fields = (
            Option<u64>,
            Option<u64>,
            Option<u32>,
            Option<String>,
            Option<String>,
        );
        let (known, idle): (Fields, bool) = redis::pipe()
            .atomic()
            .hmget(
                self.keys.runner(app, runner),
                &["epoch", "frees", "slots", "hints", "models"],
            )
            .sismember(self.keys.idle(app), runner.as_str())
            .query_async(&mut self.connection.clone())
            .await?;
        let (Some(epoch), frees, slots, hints, models) = known else {
            return Ok(None);
        };
        let free = FreeRunner {
            runner: runner.clone(),
            epoch: Epoch(epoch),
            frees: frees.unwrap_or(0),
            slots: slots.unwrap_or(1),
            hints: parse_hints(&hints.unwrap_or_default()),
            ran: None,
            models: Some(parse_hints(&models.unwrap_or_default())),
        };
        Ok(Some((free, idle)))
    }

    /// Follows the app's runners from now on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn runner_events(&self, app: &AppId) -> Result<RunnerEvents, Error> {
        let channel = self.keys.runner_events(app);
        Ok(RunnerEvents(self.subscriptions.open(&channel).await?))
    }
}
