//! Flows: their records, and the times of their next evaluation.
//!
//! A flow's record is a job record with its steps and, until it ends, what the next steps need. An
//! update names the version that it read, so two routers that evaluate one flow advance it once.

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
use super::{Error, Flows, ms};

/// Level and sentence for a flow's log.
pub type FlowLine = (&'static str, String);

/// Initial state of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowPlan {
    /// Kind and number of steps; none has begun.
    pub flow: Flow,
    /// The part of the routing configuration that it can reach (TOML): a reload does not change it.
    pub excerpt: String,
    /// What its steps' expressions can read besides the input.
    pub headers: BTreeMap<String, String>,
}

/// A flow and what its next step needs, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowState {
    /// Record of the flow.
    pub record: JobRecord,
    /// Its steps so far.
    pub flow: Flow,
    /// Number of updates.
    pub version: u64,
    /// As in its [`FlowPlan`]; empty once it ended.
    pub excerpt: String,
    /// As in its [`FlowPlan`]; empty once it ended.
    pub headers: BTreeMap<String, String>,
    /// Outputs of the steps that succeeded, by name; empty once it ended.
    pub outputs: BTreeMap<String, Value>,
    /// Time of the read, Unix ms.
    pub now_ms: u64,
}

/// Outcome of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowUpdate {
    /// The update was stored.
    Stored,
    /// The version has changed: read again.
    Conflict,
}

impl From<bool> for FlowUpdate {
    fn from(is_stored: bool) -> Self {
        match is_stored {
            true => Self::Stored,
            false => Self::Conflict,
        }
    }
}

impl Flows<'_> {
    /// Returns a flow; `None` if the id is unknown or not a flow's.
    ///
    /// # Errors
    /// Redis is unreachable, or the record was written by another version.
    pub async fn get(self, route: &AppId, id: JobId) -> Result<Option<FlowState>, Error> {
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
                version: parsed(&fields, "version")?.unwrap_or(0),
                excerpt: fields.get("excerpt").cloned().unwrap_or_default(),
                headers: from_json(&fields, "headers")?.unwrap_or_default(),
                outputs: from_json(&fields, "outputs")?.unwrap_or_default(),
                now_ms: seconds * 1000 + micros / 1000,
            }))
        };
        read().map_err(|reason| Error::damaged(&key, reason))
    }

    /// Stores a flow's next version: its steps, the outputs, and `lines` for its log.
    pub async fn advance(
        self,
        next: &FlowState,
        state: JobState,
        lines: &[FlowLine],
    ) -> Result<FlowUpdate, Error> {
        let (route, id) = (&next.record.spec.app, next.record.spec.id);
        let mut invocation = self.scripts.advance_flow.prepare_invoke();
        invocation
            .key(self.keys.job(route, id))
            .key(self.keys.queued(route))
            .key(self.keys.log(route, id))
            .key(self.keys.job_list())
            .arg(id.to_string())
            .arg(next.version)
            .arg(state.as_str())
            .arg(json(&next.flow))
            .arg(json(&next.outputs));
        for (level, text) in lines {
            invocation.arg(level).arg(text);
        }
        let is_stored: bool = invocation
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(is_stored.into())
    }

    /// Ends a flow with its steps and outcome, and `lines` for its log. The caller then publishes
    /// the event.
    pub async fn end(
        self,
        next: &FlowState,
        state: JobState,
        outcome: &Outcome,
        lines: &[FlowLine],
    ) -> Result<FlowUpdate, Error> {
        let (route, id) = (&next.record.spec.app, next.record.spec.id);
        let (output, error) = match outcome {
            Outcome::Succeeded(output) => (json(output), String::new()),
            Outcome::Failed(error) => (String::new(), json(error)),
            Outcome::Cancelled => (String::new(), String::new()),
        };
        let mut invocation = self.scripts.end_flow.prepare_invoke();
        invocation
            .key(self.keys.job(route, id))
            .key(self.keys.queued(route))
            .key(&self.keys.ending(route, id))
            .arg(id.to_string())
            .arg(next.version)
            .arg(state.as_str())
            .arg(json(&next.flow))
            .arg(output)
            .arg(error)
            .arg(json(&next.flow.timings()))
            .arg(RETENTION_S);
        for (level, text) in lines {
            invocation.arg(level).arg(text);
        }
        let is_stored: bool = invocation
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(is_stored.into())
    }

    /// Returns whether the event of an ended job may not be published yet.
    pub async fn is_in_outbox(self, app: &AppId, job: JobId) -> Result<bool, Error> {
        let key = self.keys.outbox(app);
        let noted: Option<f64> = self.connection.clone().zscore(key, job.to_string()).await?;
        Ok(noted.is_some())
    }

    /// Schedules an evaluation of a flow after `wait` at the latest.
    pub async fn schedule(self, route: &AppId, id: JobId, wait: Duration) -> Result<(), Error> {
        Ok(self
            .scripts
            .schedule_flow
            .key(self.keys.scheduled_flows())
            .arg(member(route, id))
            .arg(ms(wait))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Removes a flow from the schedule: it ended and its event is published, or it is gone.
    pub async fn unschedule(self, route: &AppId, id: JobId) -> Result<(), Error> {
        let key = self.keys.scheduled_flows();
        Ok(self.connection.clone().zrem(key, member(route, id)).await?)
    }

    /// Takes at most `limit` flows whose evaluation is due. They are due again after `again`, so a
    /// crash of the caller loses none.
    pub async fn take_due(
        self,
        again: Duration,
        limit: usize,
    ) -> Result<Vec<(AppId, JobId)>, Error> {
        let members: Vec<String> = self
            .scripts
            .take_due_flows
            .key(self.keys.scheduled_flows())
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
