//! Jobs' records and their atomic moves.

use std::collections::HashMap;
use std::str::FromStr;

use redis::AsyncCommands;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Error, Ran, RunnerReport, Store};
use crate::hint::Hint;
use crate::ids::{AppId, Epoch, Fence, IdempotencyKey, JobId, RunnerId};
use crate::job::{
    Decision, Hold, JobError, JobRecord, JobSpec, MAX_ATTEMPTS, Priority, Progress, Timings,
};
use crate::state::JobState;

/// How long a job can be found by its id alone and by its idempotency key, besides its retention: longer than any job waits
/// and runs, s.
const LONGEST_LIFE_S: u64 = 7 * 24 * 3600;

/// How long a record that does not say is kept after its job ended, s.
pub(super) const RETENTION_S: u64 = 24 * 3600;

/// On what terms a job is taken in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// The submitter's own name for the submission.
    pub key: Option<&'a IdempotencyKey>,
    /// A new job is refused if that many of the app wait already.
    pub max_queue_length: Option<u64>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is a new job.
    New {
        /// Its id: the one that came with it, or the one that its key keeps.
        id: JobId,
        /// When it was accepted, Unix ms.
        created_ms: u64,
    },
    /// The id or the idempotency key is known.
    Known {
        /// The job that it stands for.
        id: JobId,
    },
    /// Too many jobs wait; nothing was recorded.
    Full {
        /// So many.
        waiting: u64,
    },
}

/// Why a job can not be sent or started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// There is no record (Redis lost it, or its retention is over).
    Missing,
    /// It ended.
    Terminal(JobState),
    /// A runner holds its lease.
    Leased {
        /// Until the lease lapses, ms.
        remaining_ms: u64,
    },
    /// Its runner is lost: note that with [`Store::lose`], then look again.
    Lost,
    /// It had all its attempts: end it with [`Store::quarantine`].
    Spent,
}

/// What became of an attempt to claim a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The runner, in this incarnation, is reserved for the job.
    Won(Epoch),
    /// The runner is not idle any more.
    Refused,
    /// The job needs no runner.
    Unavailable(Unavailable),
}

/// A right to run a job, and which attempt it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// 1 for the first.
    pub attempt: u32,
    /// Proves that a result is this attempt's.
    pub fence: Fence,
}

/// What became of an attempt to start a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Run it.
    Started(Lease),
    /// The dispatcher claimed the runner for another job meanwhile: give this one back.
    Claimed,
    /// The runner is registered no more: it must register again first.
    Stale,
    /// The job is not to be run now.
    Unavailable(Unavailable),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With the app's output.
    Succeeded(Value),
    /// With an error.
    Failed(JobError),
    /// Told to stop, it stopped.
    Cancelled,
}

impl Outcome {
    /// The state that the job ends in.
    pub fn state(&self) -> JobState {
        match self {
            Outcome::Succeeded(_) => JobState::Succeeded,
            Outcome::Failed(_) => JobState::Failed,
            Outcome::Cancelled => JobState::Cancelled,
        }
    }
}

/// An attempt's end, and the runner's state after it.
#[derive(Debug)]
pub struct Finish<'a> {
    /// The app.
    pub app: &'a AppId,
    /// The job.
    pub job: JobId,
    /// Who ran it.
    pub runner: &'a RunnerId,
    /// In which incarnation.
    pub epoch: Epoch,
    /// The attempt's fence.
    pub fence: Fence,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// What it cost.
    pub timings: Timings,
    /// The hints that the runner reported before.
    pub reported: &'a [Hint],
    /// What it reports now.
    pub report: &'a RunnerReport,
    /// What the run taught about its model; `None` if it failed.
    pub ran: Option<Ran>,
    /// Whether it takes jobs again; false while it drains.
    pub idle: bool,
}

impl Store {
    /// Records a job again that was accepted before, unless its id is known. `spec.created_ms` is not used: Redis' clock
    /// decides.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn create(&self, spec: &JobSpec) -> Result<Created, Error> {
        self.create_as(spec.id, spec, Terms::default()).await
    }

    /// Records a new job on `terms`, unless its id or idempotency key is known.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn admit(&self, spec: &JobSpec, terms: Terms<'_>) -> Result<Created, Error> {
        let mut id = match terms.key {
            Some(key) => self.job_of_key(&spec.app, key).await?.unwrap_or(spec.id),
            None => spec.id,
        };
        // Another submission may take the key meanwhile.
        loop {
            match self.create_as(id, spec, terms).await? {
                Created::Known { id: owner } if owner != id => id = owner,
                created => return Ok(created),
            }
        }
    }

    /// The job that an idempotency key stands for; `None` when the key is unknown.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn job_of_key(
        &self,
        app: &AppId,
        key: &IdempotencyKey,
    ) -> Result<Option<JobId>, Error> {
        let key = self.keys.idempotency(app, key);
        let id: Option<String> = self.connection.clone().get(&key).await?;
        id.map(|id| id.parse().map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    async fn create_as(
        &self,
        id: JobId,
        spec: &JobSpec,
        terms: Terms<'_>,
    ) -> Result<Created, Error> {
        let mut connection = self.connection.clone();
        let index_s = LONGEST_LIFE_S + spec.retention_s.unwrap_or(RETENTION_S);
        // The index first: a record that can not be found would be worse than an index entry without record.
        let _: () = connection
            .set_ex(self.keys.job_app(id), spec.app.as_str(), index_s)
            .await?;
        let mut invocation = self.scripts.create.prepare_invoke();
        invocation
            .key(self.keys.job(&spec.app, id))
            .key(self.keys.queued(&spec.app))
            .key(self.keys.start_deadlines(&spec.app));
        if let Some(key) = terms.key {
            invocation.key(self.keys.idempotency(&spec.app, key));
        }
        let bound = terms.max_queue_length.map(|bound| bound.to_string());
        invocation
            .arg(id.to_string())
            .arg(bound.unwrap_or_default())
            .arg(index_s);
        let reply_to = spec.reply_to.as_ref().map(json);
        let ms = |ms: Option<u64>| ms.map(|ms| ms.to_string());
        for (field, value) in [
            ("input", Some(json(&spec.input))),
            ("priority", Some(spec.priority.as_str().to_owned())),
            ("hint", spec.hint.as_ref().map(ToString::to_string)),
            (
                "path",
                Some(spec.path.clone()).filter(|path| !path.is_empty()),
            ),
            ("max_warm_wait_ms", ms(spec.max_warm_wait_ms)),
            ("start_timeout_ms", ms(spec.start_timeout_ms)),
            ("run_timeout_ms", ms(spec.run_timeout_ms)),
            ("max_attempts", Some(spec.max_attempts.to_string())),
            ("reply_to", reply_to),
            ("retention_s", spec.retention_s.map(|s| s.to_string())),
            ("no_store", spec.no_store.then(|| "1".to_owned())),
        ] {
            if let Some(value) = value {
                invocation.arg(field).arg(value);
            }
        }
        let reply: Vec<String> = invocation.invoke_async(&mut connection).await?;
        match words(&reply).as_slice() {
            ["created", now] => Ok(Created::New {
                id,
                created_ms: number(now)?,
            }),
            ["known"] => Ok(Created::Known { id }),
            ["another", owner] => Ok(Created::Known {
                id: owner
                    .parse()
                    .map_err(|error| Error::damaged("an idempotency key", error))?,
            }),
            ["full", waiting] => Ok(Created::Full {
                waiting: number(waiting)?,
            }),
            other => Err(Error::damaged(
                "a script's reply",
                format_args!("{other:?} is unknown"),
            )),
        }
    }

    /// Takes a submission back that did not reach the queue, and with the last one the record. False: the job
    /// goes on, since it reached the queue, or another submission of it did.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn discard(&self, app: &AppId, job: JobId) -> Result<bool, Error> {
        Ok(self
            .scripts
            .discard
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .arg(job.to_string())
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// The app of a job; `None` when the id is unknown.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn job_app(&self, job: JobId) -> Result<Option<AppId>, Error> {
        let key = self.keys.job_app(job);
        let app: Option<String> = self.connection.clone().get(&key).await?;
        app.map(|app| AppId::parse(&app).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// A job's record; `None` when the id is unknown.
    ///
    /// # Errors
    /// Redis is away, or the record is not what this build writes.
    pub async fn job(&self, job: JobId) -> Result<Option<JobRecord>, Error> {
        match self.job_app(job).await? {
            Some(app) => self.job_of(&app, job).await,
            None => Ok(None),
        }
    }

    /// A job's record, its app being known.
    ///
    /// # Errors
    /// As [`Store::job`].
    pub async fn job_of(&self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        let key = self.keys.job(app, job);
        let fields: HashMap<String, String> = self.connection.clone().hgetall(&key).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        record(app, job, &fields)
            .map(Some)
            .map_err(|reason| Error::damaged(&key, reason))
    }

    /// How long the record of a job that ended is still kept, s; `None` for a job that did not end, or is unknown.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn kept_s(&self, app: &AppId, job: JobId) -> Result<Option<u64>, Error> {
        let left_s: i64 = self.connection.clone().ttl(self.keys.job(app, job)).await?;
        Ok(u64::try_from(left_s).ok())
    }

    /// Jobs of the app that wait in front of this one; `None` when it does not wait.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn queue_position(&self, app: &AppId, job: JobId) -> Result<Option<u64>, Error> {
        let key = self.keys.queued(app);
        Ok(self.connection.clone().zrank(key, job.to_string()).await?)
    }

    /// Jobs of the app that wait.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn queue_length(&self, app: &AppId) -> Result<u64, Error> {
        Ok(self.connection.clone().zcard(self.keys.queued(app)).await?)
    }

    /// Reserves `runner` for `job` for `claim_ms`, if both are still free.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn claim(
        &self,
        app: &AppId,
        job: JobId,
        runner: &RunnerId,
        claim_ms: u64,
        decision: &Decision,
    ) -> Result<Claim, Error> {
        let reply: Vec<String> = self
            .scripts
            .claim
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .arg(job.to_string())
            .arg(runner.as_str())
            .arg(claim_ms)
            .arg(json(decision))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["claimed", epoch] => Ok(Claim::Won(Epoch(number(epoch)?))),
            ["refused"] => Ok(Claim::Refused),
            other => Ok(Claim::Unavailable(unavailable(other)?)),
        }
    }

    /// Notes that `job` is held; the reason when it must not be.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn hold(
        &self,
        app: &AppId,
        job: JobId,
        hold: &Hold,
    ) -> Result<Option<Unavailable>, Error> {
        let reply: Vec<String> = self
            .scripts
            .hold
            .key(self.keys.job(app, job))
            .arg(json(hold))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["held"] => Ok(None),
            other => Ok(Some(unavailable(other)?)),
        }
    }

    /// Notes that `job` goes to the app's shared queue; the reason when it must not.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn share(
        &self,
        app: &AppId,
        job: JobId,
        decision: &Decision,
    ) -> Result<Option<Unavailable>, Error> {
        let reply: Vec<String> = self
            .scripts
            .share
            .key(self.keys.job(app, job))
            .arg(json(decision))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["shared"] => Ok(None),
            other => Ok(Some(unavailable(other)?)),
        }
    }

    /// Begins an attempt of `job` on `runner`. `claimed`: the dispatcher claimed this runner for it; else the runner took
    /// it from the shared queue and claims itself.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn start(
        &self,
        app: &AppId,
        job: JobId,
        runner: &RunnerId,
        epoch: Epoch,
        lease_ms: u64,
        claimed: bool,
    ) -> Result<Start, Error> {
        let reply: Vec<String> = self
            .scripts
            .start
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, runner))
            .key(self.keys.idle(app))
            .key(self.keys.queued(app))
            .arg(job.to_string())
            .arg(runner.as_str())
            .arg(epoch.0)
            .arg(lease_ms)
            .arg(if claimed { "own" } else { "shared" })
            .arg(self.keys.changes(app))
            .arg(RETENTION_S)
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["started", attempt, fence] => Ok(Start::Started(Lease {
                attempt: number(attempt)?,
                fence: Fence(number(fence)?),
            })),
            ["claimed"] => Ok(Start::Claimed),
            ["stale"] => Ok(Start::Stale),
            other => Ok(Start::Unavailable(unavailable(other)?)),
        }
    }

    /// Keeps a running job's lease for another `lease_ms`. False: the job is no longer this attempt's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn renew(
        &self,
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

    /// Notes how far a running job is. False: the job is no longer this attempt's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn progress(
        &self,
        app: &AppId,
        job: JobId,
        fence: Fence,
        progress: &Progress,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .progress
            .key(self.keys.job(app, job))
            .arg(fence.0)
            .arg(json(progress))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Ends an attempt. False: the result was refused, since the job is no longer this attempt's; the runner's hints
    /// are taken all the same.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn finish(&self, finish: &Finish<'_>) -> Result<bool, Error> {
        let Finish { app, job, .. } = *finish;
        let (output, error) = match finish.outcome {
            Outcome::Succeeded(output) => (json(output), String::new()),
            Outcome::Failed(error) => (String::new(), json(error)),
            Outcome::Cancelled => (String::new(), String::new()),
        };
        let hints = &finish.report.hints;
        let left: Vec<&Hint> = finish
            .reported
            .iter()
            .filter(|hint| !hints.contains(hint))
            .collect();
        let mut invocation = self.scripts.finish.prepare_invoke();
        invocation
            .key(self.keys.job(app, job))
            .key(self.keys.runner(app, finish.runner))
            .key(self.keys.idle(app))
            .key(self.keys.blank(app));
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
            .arg(json(hints))
            .arg(hints.len())
            .arg(finish.report.memory_bytes)
            .arg(u8::from(finish.idle))
            .arg(self.keys.changes(app))
            .arg(left.len())
            .arg(finish.report.slots)
            .arg(finish.ran.as_ref().map(json).unwrap_or_default());
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Gives a running job back unfinished, without costing it an attempt. False: it is no longer this attempt's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn requeue(&self, app: &AppId, job: JobId, fence: Fence) -> Result<bool, Error> {
        Ok(self
            .scripts
            .requeue
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(self.keys.start_deadlines(app))
            .arg(job.to_string())
            .arg(fence.0)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Notes that the runner of a job is lost; the job is queued again. The number of the attempt that was lost; `None`: the
    /// job is not a lost runner's (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn lose(&self, app: &AppId, job: JobId) -> Result<Option<u32>, Error> {
        let attempt: u32 = self
            .scripts
            .lose
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .arg(job.to_string())
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(Some(attempt).filter(|attempt| *attempt > 0))
    }

    /// Ends a job that had all its attempts. False: it has one left, runs, or ended.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn quarantine(
        &self,
        app: &AppId,
        job: JobId,
        error: &JobError,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .quarantine
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .arg(job.to_string())
            .arg(json(error))
            .arg(RETENTION_S)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Gives a quarantined job all its attempts again; to publish it is the caller's business. False: it is not quarantined
    /// (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn revive(&self, app: &AppId, job: JobId) -> Result<bool, Error> {
        let mut connection = self.connection.clone();
        let _: () = connection
            .set_ex(
                self.keys.job_app(job),
                app.as_str(),
                LONGEST_LIFE_S + RETENTION_S,
            )
            .await?;
        Ok(self
            .scripts
            .revive
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .arg(job.to_string())
            .invoke_async(&mut connection)
            .await?)
    }
}

/// Serialises a value that has no way to fail (string keys, no I/O).
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn words(reply: &[String]) -> Vec<&str> {
    reply.iter().map(String::as_str).collect()
}

fn number<T: FromStr>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::damaged("a script's reply", format_args!("'{text}' is no number")))
}

fn unavailable(reply: &[&str]) -> Result<Unavailable, Error> {
    match reply {
        ["missing"] => Ok(Unavailable::Missing),
        ["terminal", state] => state
            .parse()
            .map(Unavailable::Terminal)
            .map_err(|error| Error::damaged("a script's reply", error)),
        ["leased", remaining] => Ok(Unavailable::Leased {
            remaining_ms: number(remaining)?,
        }),
        ["lost"] => Ok(Unavailable::Lost),
        ["spent"] => Ok(Unavailable::Spent),
        other => Err(Error::damaged(
            "a script's reply",
            format_args!("{other:?} is unknown"),
        )),
    }
}

fn record(app: &AppId, id: JobId, fields: &HashMap<String, String>) -> Result<JobRecord, String> {
    let text = |name: &str| fields.get(name).map(String::as_str);
    let state = text("state").ok_or("it has no state")?;
    let spec = JobSpec {
        id,
        app: app.clone(),
        path: text("path").unwrap_or_default().to_owned(),
        hint: parsed(fields, "hint")?,
        priority: text("priority")
            .and_then(Priority::parse)
            .unwrap_or_default(),
        max_warm_wait_ms: parsed(fields, "max_warm_wait_ms")?,
        start_timeout_ms: parsed(fields, "start_timeout_ms")?,
        run_timeout_ms: parsed(fields, "run_timeout_ms")?,
        max_attempts: parsed(fields, "max_attempts")?.unwrap_or(MAX_ATTEMPTS),
        input: from_json(fields, "input")?.unwrap_or_default(),
        created_ms: parsed(fields, "created_ms")?.ok_or("it has no created_ms")?,
        reply_to: from_json(fields, "reply_to")?,
        retention_s: parsed(fields, "retention_s")?,
        no_store: text("no_store").is_some(),
    };
    Ok(JobRecord {
        spec,
        state: state.parse().map_err(|error| format!("{error}"))?,
        attempt: parsed(fields, "attempt")?.unwrap_or(0),
        fence: Fence(parsed(fields, "fence")?.unwrap_or(0)),
        dispatched_ms: parsed(fields, "dispatched_ms")?,
        started_ms: parsed(fields, "started_ms")?,
        finished_ms: parsed(fields, "finished_ms")?,
        runner: parsed(fields, "runner")?,
        lost_runners: from_json(fields, "lost_runners")?.unwrap_or_default(),
        hold: from_json(fields, "hold")?,
        decision: from_json(fields, "decision")?,
        progress: from_json(fields, "progress")?,
        timings: from_json(fields, "timings")?,
        output: from_json(fields, "output")?,
        error: from_json(fields, "error")?,
    })
}

fn parsed<T>(fields: &HashMap<String, String>, name: &str) -> Result<Option<T>, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    fields
        .get(name)
        .map(|text| text.parse().map_err(|error| format!("{name}: {error}")))
        .transpose()
}

fn from_json<T: DeserializeOwned>(
    fields: &HashMap<String, String>,
    name: &str,
) -> Result<Option<T>, String> {
    fields
        .get(name)
        .map(|text| serde_json::from_str(text).map_err(|error| format!("{name}: {error}")))
        .transpose()
}
