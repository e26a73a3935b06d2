//! Attempts: start, lease, end, loss, requeue, quarantine.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use warmq_process::retry::before_next;
use warmq_types::attempt::{Lease, Outcome};
use warmq_types::fault::RunnerFault;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, Fence, JobId, RunnerId};
use warmq_types::job::{JobError, Progress, Timings};
use warmq_types::message::FailureHistory;
use warmq_types::retry_tier::RetryTier;
use warmq_types::tier::Tier;

use super::jobs::RETENTION_S;
use super::record::json;
use super::script_reply::{about_a_job, number, unavailable, words};
use super::{Attempts, Error, Ran, RunnerReport, Unavailable, ms};

/// Number of attempts after which the delay no longer grows.
const PAUSES: u32 = 12;

/// How a runner came to start a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartSource {
    /// The dispatcher claimed the runner for this job.
    Claim,
    /// The runner took the job from the shared queue and claims itself.
    SharedQueue,
    /// The job runs already: Redis was unavailable at its start.
    StartedDuringOutage {
        /// Time since its start, ms.
        ago_ms: u64,
    },
}

/// A runner that was lost during an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Number of the lost attempt.
    pub attempt: u32,
    /// The lost runner.
    pub runner: RunnerId,
    /// Delay until the next attempt; `None` after the last one.
    pub pause: Option<Duration>,
}

/// Why a runner requeues its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequeueCause<'a> {
    /// The runner stops. The attempt does not count.
    Uncounted,
    /// A timeout or a runner fault. The attempt counts.
    Counted {
        /// The reason, for the job's log.
        reason: &'a str,
        /// The runner's fault, if it may be the job's.
        fault: Option<&'a RunnerFault>,
    },
}

/// Outcome of starting a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The attempt has begun.
    Started(Lease),
    /// The dispatcher claimed the runner for another job meanwhile: return this one.
    Claimed,
    /// The runner drains: it takes no job of the shared queue.
    Draining,
    /// The runner is no longer registered: it must register first.
    Stale,
    /// The job must not run now.
    Unavailable(Unavailable),
}

/// End of an attempt, and the runner's state after it.
#[derive(Debug)]
pub struct Finish<'a> {
    /// The app.
    pub app: &'a AppId,
    /// The job.
    pub job: JobId,
    /// The runner.
    pub runner: &'a RunnerId,
    /// The runner's incarnation.
    pub epoch: Epoch,
    /// The attempt's fence.
    pub fence: Fence,
    /// Outcome of the attempt.
    pub outcome: &'a Outcome,
    /// Timings of the attempt.
    pub timings: Timings,
    /// Models that the runner reported before.
    pub reported: &'a [Hint],
    /// Models that it reports now.
    pub report: &'a RunnerReport,
    /// Measurements of the run for the policy; `None` if it failed.
    pub ran: Option<Ran>,
    /// Whether the runner takes further jobs; false while it drains.
    pub idle: bool,
}

impl Finish<'_> {
    /// Returns the number of pictures in the output: in `images`, else `image`.
    fn pictures(&self) -> usize {
        match self.outcome {
            Outcome::Succeeded(output) => match (output.get("images"), output.get("image")) {
                (Some(Value::Array(images)), _) => images.len(),
                (_, Some(Value::Object(_) | Value::String(_))) => 1,
                _ => 0,
            },
            Outcome::Failed(_) | Outcome::Cancelled => 0,
        }
    }

    /// Returns level and text for the job's log.
    fn last_line(&self) -> (&'static str, String) {
        let Timings {
            load_ms, run_ms, ..
        } = self.timings;
        match (self.outcome, self.timings.tier()) {
            (Outcome::Succeeded(_), Tier::Device) => {
                ("INFO", format!("succeeded: warm, ran {run_ms} ms"))
            }
            (Outcome::Succeeded(_), Tier::Ram) => (
                "INFO",
                format!("succeeded: loaded from RAM in {load_ms} ms, ran {run_ms} ms"),
            ),
            (Outcome::Succeeded(_), Tier::Disk) => (
                "INFO",
                format!("succeeded: cold, loaded {load_ms} ms, ran {run_ms} ms"),
            ),
            (Outcome::Failed(error), _) => ("ERROR", format!("failed: {}", error.message)),
            (Outcome::Cancelled, _) => ("ERROR", "cancelled".to_owned()),
        }
    }
}

/// Delays after the first, second, … failed attempt, ms: those of the retry tiers that park the
/// message.
fn pauses_ms() -> Vec<u64> {
    (1..=PAUSES)
        .filter_map(|attempt| before_next(attempt, u32::MAX))
        .map(|pause| ms(RetryTier::at_least(pause).delay()))
        .collect()
}

/// Parses a JSON list of a record; empty if it is none.
fn list<T: DeserializeOwned>(text: Option<&str>) -> Vec<T> {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Whether the end of an attempt is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is the job's end.
    Accepted {
        /// A submitter expects a reply.
        has_reply_address: bool,
    },
    /// It belongs to an earlier attempt, or the job has ended.
    Refused,
}

impl Attempts<'_> {
    /// Starts an attempt of `job` on `runner`, or returns the one that this incarnation has begun
    /// already, whose response was lost.
    pub async fn start(
        self,
        app: &AppId,
        job: JobId,
        runner: &RunnerId,
        epoch: Epoch,
        lease_ms: u64,
        source: StartSource,
    ) -> Result<Start, Error> {
        let (source, ago_ms) = match source {
            StartSource::Claim => ("claim", 0),
            StartSource::SharedQueue => ("shared", 0),
            StartSource::StartedDuringOutage { ago_ms } => ("outage", ago_ms),
        };
        let reply = self
            .scripts
            .start
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.queued(app))
            .key(&self.keys.ending(app, job))
            .arg(job.to_string())
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(lease_ms)
            .arg(source)
            .arg(self.keys.runner_events(app))
            .arg(RETENTION_S)
            .arg(ago_ms)
            .invoke_async(&mut self.connection.clone())
            .await;
        match words(&about_a_job(reply)?).as_slice() {
            ["started", attempt, fence] => Ok(Start::Started(Lease {
                attempt: number(attempt)?,
                fence: Fence(number(fence)?),
            })),
            ["claimed"] => Ok(Start::Claimed),
            ["draining"] => Ok(Start::Draining),
            ["stale"] => Ok(Start::Stale),
            other => Ok(Start::Unavailable(unavailable(other)?)),
        }
    }

    /// Renews a running job's lease for `lease_ms`. Returns whether the job is still this
    /// attempt's.
    pub async fn renew(
        self,
        app: &AppId,
        job: JobId,
        fence: Fence,
        lease_ms: u64,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .renew
            .key(self.keys.job(app, job))
            .arg(fence.0)
            .arg(lease_ms)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Stores the progress of a running job. Returns whether the job is still this attempt's.
    pub async fn progress(
        self,
        app: &AppId,
        job: JobId,
        fence: Fence,
        progress: &Progress,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .progress
            .key(self.keys.job(app, job))
            .key(self.keys.log(app, job))
            .arg(fence.0)
            .arg(json(progress))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Appends events (JSON) to the stream of a running job. Returns whether the job is still this
    /// attempt's.
    pub async fn emit(
        self,
        app: &AppId,
        job: JobId,
        fence: Fence,
        events: &[String],
    ) -> Result<bool, Error> {
        let mut invocation = self.scripts.emit.prepare_invoke();
        invocation
            .key(self.keys.job(app, job))
            .key(self.keys.events(app, job))
            .arg(fence.0);
        for event in events {
            invocation.arg(event);
        }
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Ends an attempt. The runner's models are stored even if the result is refused.
    pub async fn finish(self, finish: &Finish<'_>) -> Result<Finished, Error> {
        let Finish { app, job, .. } = *finish;
        let (output, error) = match finish.outcome {
            Outcome::Succeeded(output) => (json(output), String::new()),
            Outcome::Failed(error) => (String::new(), json(error)),
            Outcome::Cancelled => (String::new(), String::new()),
        };
        let hints = &finish.report.hints;
        let left = finish.report.left(finish.reported);
        let mut invocation = self.scripts.finish.prepare_invoke();
        invocation
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, finish.runner))
            .key(self.keys.idle(app))
            .key(self.keys.blank(app))
            .key(&self.keys.ending(app, job));
        for hint in left.iter().copied().chain(hints) {
            invocation.key(self.keys.hint(app, hint));
        }
        invocation
            .arg(job.to_string())
            .arg(finish.runner.as_str())
            .arg(finish.epoch.0)
            .arg(finish.fence.0)
            .arg(finish.outcome.state().as_str())
            .arg(output)
            .arg(error)
            .arg(json(&finish.timings))
            .arg(RETENTION_S)
            .arg(hints.len())
            .arg(u8::from(finish.idle))
            .arg(self.keys.runner_events(app))
            .arg(left.len())
            .arg(finish.ran.as_ref().map(json).unwrap_or_default());
        let (level, line) = finish.last_line();
        invocation.arg(level).arg(line).arg(finish.pictures());
        for (field, value) in finish.report.fields() {
            invocation.arg(field).arg(value);
        }
        let reply: String = invocation
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(match reply.as_str() {
            "accepted" => Finished::Accepted {
                has_reply_address: false,
            },
            "accepted, with reply address" => Finished::Accepted {
                has_reply_address: true,
            },
            _ => Finished::Refused,
        })
    }

    /// Requeues a running job. Returns whether it was still this attempt's.
    pub async fn requeue(
        self,
        app: &AppId,
        job: JobId,
        fence: Fence,
        cause: RequeueCause<'_>,
    ) -> Result<bool, Error> {
        let (reason, fault) = match cause {
            RequeueCause::Uncounted => ("", None),
            RequeueCause::Counted { reason, fault } => (reason, fault),
        };
        Ok(self
            .scripts
            .requeue
            .key(&self.keys.requeueing(app, job))
            .arg(job.to_string())
            .arg(fence.0)
            .arg(reason)
            .arg(fault.map(json).unwrap_or_default())
            .arg(pauses_ms())
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Records that a job's runner was lost, and queues the job again. `None`: no runner was lost
    /// (any more).
    pub async fn mark_lost(self, app: &AppId, job: JobId) -> Result<Option<Loss>, Error> {
        let reply: Vec<String> = self
            .scripts
            .mark_lost
            .key(&self.keys.requeueing(app, job))
            .key(self.keys.lost_runner_jobs(app))
            .arg(job.to_string())
            .arg(pauses_ms())
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["lost", attempt, runner, pause_ms] => Ok(Some(Loss {
                attempt: number(attempt)?,
                pause: match *pause_ms {
                    "" => None,
                    ms => Some(Duration::from_millis(number(ms)?)),
                },
                runner: RunnerId::parse(runner)
                    .map_err(|error| Error::damaged("a script's reply", error))?,
            })),
            _ => Ok(None),
        }
    }

    /// Returns the avoid list and faults of a job, for its messages. Unreadable entries are
    /// omitted.
    pub async fn failure_history(self, app: &AppId, job: JobId) -> Result<FailureHistory, Error> {
        let key = self.keys.job(app, job);
        let (avoid, faults): (Option<String>, Option<String>) = redis::cmd("HMGET")
            .arg(key)
            .arg(&["avoid", "faults"])
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(FailureHistory {
            avoid: list(avoid.as_deref()),
            faults: list(faults.as_deref()),
        })
    }

    /// Ends a job without attempts left. Returns false if it has one left, runs, or ended.
    pub async fn quarantine(
        self,
        app: &AppId,
        job: JobId,
        error: &JobError,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .quarantine
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(&self.keys.ending(app, job))
            .arg(job.to_string())
            .arg(json(error))
            .arg(RETENTION_S)
            .arg(format!("failed: {}", error.message))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Restores all attempts of a quarantined job, which the caller then publishes. Returns false
    /// if it is not quarantined (any more).
    pub async fn redrive(self, app: &AppId, job: JobId) -> Result<bool, Error> {
        let mut connection = self.connection.clone();
        self.jobs().index(app, job, RETENTION_S).await?;
        Ok(self
            .scripts
            .redrive
            .key(&self.keys.requeueing(app, job))
            .key(self.keys.active(app))
            .key(self.keys.tombstone(app, job))
            .key(self.keys.job_list_trims())
            .arg(job.to_string())
            .invoke_async(&mut connection)
            .await?)
    }
}
