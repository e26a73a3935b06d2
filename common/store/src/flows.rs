//! Flows: their records, how far they are, and when somebody looks at them whatever is heard.
//!
//! A flow's record is a job's, with the steps so far and, while it is under way, what the next steps need. Whoever moves a flow on
//! says which move it knew last, so two routers that look at one flow move it once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::AsyncCommands;
use serde_json::Value;
use warmq_types::attempt::Outcome;
use warmq_types::flow::Flow;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::jobs::RETENTION_S;
use super::record::{from_json, json, parsed, record};
use super::script_reply::words;
use super::{Error, Store, ms};

/// A level and a sentence for a flow's log.
pub type FlowLine = (&'static str, String);

/// What a flow begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowPlan {
    /// Its kind and how many steps there are; none of them is begun.
    pub flow: Flow,
    /// The part of the file that it can reach (TOML): a reload does not touch it.
    pub excerpt: String,
    /// What its steps' expressions may look at besides the input.
    pub headers: BTreeMap<String, String>,
}

/// A flow and what its next step needs, as they were at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowState {
    /// Its record.
    pub record: JobRecord,
    /// Its steps so far.
    pub flow: Flow,
    /// How often it was moved on.
    pub moves: u64,
    /// As its [`FlowPlan`] had it; empty once it ended.
    pub excerpt: String,
    /// As its [`FlowPlan`] had them; empty once it ended.
    pub headers: BTreeMap<String, String>,
    /// The outputs of the steps that succeeded, by the steps' names; empty once it ended.
    pub outputs: BTreeMap<String, Value>,
    /// That moment, Unix ms.
    pub now_ms: u64,
}

/// What became of an attempt to move a flow on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowTransition {
    /// It was moved.
    On,
    /// It is not where its mover thought: look again.
    Conflict,
}

impl From<bool> for FlowTransition {
    fn from(moved: bool) -> Self {
        match moved {
            true => Self::On,
            false => Self::Conflict,
        }
    }
}

impl Store {
    /// A flow; `None` when the id is unknown, or no flow's.
    ///
    /// # Errors
    /// Redis is away, or the record is not what this build writes.
    pub async fn flow(&self, route: &AppId, id: JobId) -> Result<Option<FlowState>, Error> {
        let key = self.keys.job(route, id);
        let (fields, (seconds, micros)): (HashMap<String, String>, (u64, u64)) = redis::pipe()
            .hgetall(&key)
            .cmd("TIME")
            .query_async(&mut self.connection.clone())
            .await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let read = || -> Result<Option<FlowState>, String> {
            let record = record(route, id, &fields)?;
            let Some(flow) = record.flow.clone() else {
                return Ok(None);
            };
            Ok(Some(FlowState {
                record,
                flow,
                moves: parsed(&fields, "moves")?.unwrap_or(0),
                excerpt: fields.get("excerpt").cloned().unwrap_or_default(),
                headers: from_json(&fields, "headers")?.unwrap_or_default(),
                outputs: from_json(&fields, "outputs")?.unwrap_or_default(),
                now_ms: seconds * 1000 + micros / 1000,
            }))
        };
        read().map_err(|reason| Error::damaged(&key, reason))
    }

    /// Notes in what state a flow is after its next move: its steps, the outputs, and `lines` for its log.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn advance_flow(
        &self,
        moved: &FlowState,
        state: JobState,
        lines: &[FlowLine],
    ) -> Result<FlowTransition, Error> {
        let (route, id) = (&moved.record.spec.app, moved.record.spec.id);
        let mut invocation = self.scripts.advance_flow.prepare_invoke();
        invocation
            .key(self.keys.job(route, id))
            .key(self.keys.queued(route))
            .key(self.keys.log(route, id))
            .arg(id.to_string())
            .arg(moved.moves)
            .arg(state.as_str())
            .arg(json(&moved.flow))
            .arg(json(&moved.outputs));
        for (level, text) in lines {
            invocation.arg(level).arg(text);
        }
        let moved: bool = invocation
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(moved.into())
    }

    /// Ends a flow with what came of its steps, and `lines` for its log. To be announced then.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn end_flow(
        &self,
        moved: &FlowState,
        state: JobState,
        outcome: &Outcome,
        lines: &[FlowLine],
    ) -> Result<FlowTransition, Error> {
        let (route, id) = (&moved.record.spec.app, moved.record.spec.id);
        let (output, error) = match outcome {
            Outcome::Succeeded(output) => (json(output), String::new()),
            Outcome::Failed(error) => (String::new(), json(error)),
            Outcome::Cancelled => (String::new(), String::new()),
        };
        let mut invocation = self.scripts.end_flow.prepare_invoke();
        invocation
            .key(self.keys.job(route, id))
            .key(self.keys.queued(route))
            .key(self.keys.outbox(route))
            .key(self.keys.log(route, id))
            .key(self.keys.active(route))
            .key(self.keys.tombstone(route, id))
            .arg(id.to_string())
            .arg(moved.moves)
            .arg(state.as_str())
            .arg(json(&moved.flow))
            .arg(output)
            .arg(error)
            .arg(json(&moved.flow.timings()))
            .arg(RETENTION_S);
        for (level, text) in lines {
            invocation.arg(level).arg(text);
        }
        let moved: bool = invocation
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(moved.into())
    }

    /// Whether a job that ended may not have been announced.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn is_in_outbox(&self, app: &AppId, job: JobId) -> Result<bool, Error> {
        let key = self.keys.outbox(app);
        let noted: Option<f64> = self.connection.clone().zscore(key, job.to_string()).await?;
        Ok(noted.is_some())
    }

    /// Has a flow looked at after `wait` at the latest.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn watch_flow(&self, route: &AppId, id: JobId, wait: Duration) -> Result<(), Error> {
        Ok(self
            .scripts
            .watch_flow
            .key(self.keys.watched_flows())
            .arg(member(route, id))
            .arg(ms(wait))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Looks at a flow no more: it ended and that was announced, or it is gone.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn unwatch_flow(&self, route: &AppId, id: JobId) -> Result<(), Error> {
        let key = self.keys.watched_flows();
        Ok(self.connection.clone().zrem(key, member(route, id)).await?)
    }

    /// At most `limit` flows that are to be looked at by now. They are due again after `again`, whatever becomes of the caller.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn take_due_flows(
        &self,
        again: Duration,
        limit: usize,
    ) -> Result<Vec<(AppId, JobId)>, Error> {
        let members: Vec<String> = self
            .scripts
            .take_due_flows
            .key(self.keys.watched_flows())
            .arg(ms(again))
            .arg(limit)
            .invoke_async(&mut self.connection.clone())
            .await?;
        let flows = words(&members).into_iter().filter_map(|member| {
            let (route, id) = member.split_once(' ')?;
            Some((AppId::parse(route).ok()?, id.parse().ok()?))
        });
        Ok(flows.collect())
    }
}

fn member(route: &AppId, id: JobId) -> String {
    format!("{route} {id}")
}
