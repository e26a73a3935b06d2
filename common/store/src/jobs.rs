//! Records of jobs: creation, removal, lookup.

use std::collections::HashMap;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, IdempotencyKey, JobId, KeyId};
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::state::JobState;

use super::record::{HEAD, OUTPUT, json, record};
use super::script_reply::{number, words};
use super::{Error, FlowPlan, Jobs};

/// Lifetime of the entries that find a job by its id alone or by its idempotency key, besides the
/// retention, s: longer than any job waits and runs.
pub(super) const LONGEST_LIFE_S: u64 = 7 * 24 * 3600;

/// Default retention, s.
pub(super) const RETENTION_S: u64 = 24 * 3600;

/// Conditions for the admission of a job.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmissionRules<'a> {
    /// Idempotency key of the submission.
    pub key: Option<&'a IdempotencyKey>,
    /// Refuses a new job while this many jobs of the app wait.
    pub max_queue_length: Option<u64>,
    /// Refuses a new job while this many jobs of the app and its owner are active.
    pub max_active: Option<u64>,
    /// Whether it is a flow, which routers run.
    pub plan: Option<&'a FlowPlan>,
    /// Whether an ended job, whose retention is over, must not run again.
    pub once: bool,
}

/// Outcome of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// A new job.
    New {
        /// Its id: the given one, or the one of its idempotency key.
        id: JobId,
        /// Time of acceptance, Unix ms.
        created_ms: u64,
    },
    /// The id or the idempotency key is known.
    Known {
        /// The job of that id or key.
        id: JobId,
    },
    /// Too many jobs wait; nothing was recorded.
    Full {
        /// Their number.
        waiting: u64,
    },
    /// Too many jobs of its owner are active; nothing was recorded.
    Busy,
    /// It ended before, and its retention is over; nothing was recorded.
    Ended,
}

/// The small fields of a job's record, and its position in the queue, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHead {
    /// The record without input and output.
    pub record: JobRecord,
    /// Number of jobs in front of it, while it waits.
    pub queue_position: Option<u64>,
}

impl<'a> Jobs<'a> {
    /// Records an accepted job again, unless its id is known or it ended. `spec.created_ms` is
    /// replaced by Redis' clock.
    pub async fn create(self, spec: &JobSpec) -> Result<Created, Error> {
        let terms = AdmissionRules {
            once: true,
            ..AdmissionRules::default()
        };
        self.create_as(spec.id, spec, terms).await
    }

    /// Records a new job, unless its id or idempotency key is known.
    pub async fn admit(self, spec: &JobSpec, terms: AdmissionRules<'_>) -> Result<Created, Error> {
        let mut id = match terms.key {
            Some(key) => self
                .job_of_key(&spec.app, spec.owner.as_ref(), key)
                .await?
                .unwrap_or(spec.id),
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

    /// Returns the job of an owner's idempotency key, if the key is known.
    pub async fn job_of_key(
        self,
        app: &AppId,
        owner: Option<&KeyId>,
        key: &IdempotencyKey,
    ) -> Result<Option<JobId>, Error> {
        let key = self.keys.idempotency(app, owner, key);
        let id: Option<String> = self.connection.clone().get(&key).await?;
        id.map(|id| id.parse().map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    async fn create_as(
        self,
        id: JobId,
        spec: &JobSpec,
        terms: AdmissionRules<'_>,
    ) -> Result<Created, Error> {
        let reply: Vec<String> = (self.create_call(id, spec, terms))
            .invoke_async(&mut self.connection.clone())
            .await?;
        created(id, &words(&reply))
    }

    /// Prepares `create.lua`.
    fn create_call(
        self,
        id: JobId,
        spec: &JobSpec,
        terms: AdmissionRules<'_>,
    ) -> redis::ScriptInvocation<'a> {
        let (app, owner) = (&spec.app, spec.owner.as_ref());
        let bound = |bound: Option<u64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
        let mut call = self.0.scripts.create.prepare_invoke();
        call.key(self.keys.job(app, id))
            .key(self.keys.queued(app))
            .key(self.keys.start_deadlines(app))
            .key(self.keys.active(app))
            .key(self.keys.tombstone(app, id))
            .key(self.keys.job_app(id))
            .key(self.keys.job_list());
        if let Some(key) = terms.key {
            call.key(self.keys.idempotency(app, owner, key));
        }
        call.arg(id.to_string())
            .arg(bound(terms.max_queue_length))
            .arg(LONGEST_LIFE_S + spec.retention_s.unwrap_or(RETENTION_S))
            .arg(owner.map_or("", KeyId::as_str))
            .arg(bound(terms.max_active))
            .arg(u8::from(terms.once))
            .arg(app.as_str());
        for (field, value) in fields(spec, terms.plan) {
            if let Some(value) = value {
                call.arg(field).arg(value);
            }
        }
        call
    }

    /// Indexes an active job by its id, as `create.lua` does.
    pub(super) async fn index(
        self,
        app: &AppId,
        job: JobId,
        retention_s: u64,
    ) -> Result<(), Error> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.job_app(job)).arg(app.as_str());
        set.arg("EX").arg(LONGEST_LIFE_S + retention_s);
        Ok(set.query_async(&mut self.connection.clone()).await?)
    }

    /// Withdraws a submission that did not reach the queue, and with the last one the record.
    /// Returns false if the job continues, since it or another submission of it did reach the
    /// queue.
    pub async fn withdraw(self, app: &AppId, job: JobId) -> Result<bool, Error> {
        Ok(self
            .scripts
            .withdraw_submission
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(self.keys.log(app, job))
            .key(self.keys.active(app))
            .key(self.keys.tombstone(app, job))
            .key(self.keys.job_list())
            .arg(job.to_string())
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Returns the app of a job, if the id is known.
    pub async fn job_app(self, job: JobId) -> Result<Option<AppId>, Error> {
        let key = self.keys.job_app(job);
        let app: Option<String> = self.connection.clone().get(&key).await?;
        app.map(|app| AppId::parse(&app).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Returns a job's record, if the id is known.
    ///
    /// # Errors
    /// Redis is unreachable, or the record was written by another version.
    pub async fn job(self, job: JobId) -> Result<Option<JobRecord>, Error> {
        match self.job_app(job).await? {
            Some(app) => self.job_of(&app, job).await,
            None => Ok(None),
        }
    }

    /// Returns the record of a job of this app.
    ///
    /// # Errors
    /// Those of [`Jobs::job`].
    pub async fn job_of(self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        let key = self.keys.job(app, job);
        let fields: HashMap<String, String> = self.connection.clone().hgetall(&key).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        record(app, job, &fields)
            .map(Some)
            .map_err(|reason| Error::damaged(&key, reason))
    }

    /// Returns a job's record without input and output, in one round trip, if the app has such a
    /// job.
    ///
    /// # Errors
    /// Those of [`Jobs::job`].
    pub async fn head_of(self, app: &AppId, job: JobId) -> Result<Option<JobHead>, Error> {
        let key = self.keys.job(app, job);
        let (values, queue_position): (Vec<Option<String>>, Option<u64>) = redis::pipe()
            .atomic()
            .hmget(&key, &HEAD)
            .zrank(self.keys.queued(app), job.to_string())
            .query_async(&mut self.connection.clone())
            .await?;
        let record = self.record_of((app, job), HEAD.into_iter().zip(values))?;
        Ok(record.map(|record| JobHead {
            record,
            queue_position,
        }))
    }

    /// Returns a job's record without its input, if the id is known.
    ///
    /// # Errors
    /// Those of [`Jobs::job`].
    pub async fn outcome_of(self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        let names: Vec<&str> = HEAD.into_iter().chain([OUTPUT]).collect();
        let key = self.keys.job(app, job);
        let values: Vec<Option<String>> = self.connection.clone().hmget(key, &names).await?;
        self.record_of((app, job), names.into_iter().zip(values))
    }

    /// Returns a job's record without large fields: input, output, steps.
    ///
    /// # Errors
    /// Those of [`Jobs::job`].
    pub(super) async fn summary(self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        const FIELDS: [&str; 13] = [
            "state",
            "created_ms",
            "finished_ms",
            "owner",
            "hint",
            "priority",
            "reply_to",
            "webhook",
            "retention_s",
            "no_store",
            "step_of",
            "route",
            "stored_input",
        ];
        let key = self.keys.job(app, job);
        let values: Vec<Option<String>> = self.connection.clone().hmget(&key, &FIELDS).await?;
        self.record_of((app, job), FIELDS.into_iter().zip(values))
    }

    pub(super) fn record_of<'n>(
        self,
        (app, job): (&AppId, JobId),
        fields: impl Iterator<Item = (&'n str, Option<String>)>,
    ) -> Result<Option<JobRecord>, Error> {
        let named = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        let fields: HashMap<String, String> = fields.filter_map(named).collect();
        if fields.is_empty() {
            return Ok(None);
        }
        record(app, job, &fields)
            .map(Some)
            .map_err(|reason| Error::damaged(&self.keys.job(app, job), reason))
    }

    /// Returns a job's state, if the id is known.
    ///
    /// # Errors
    /// Those of [`Jobs::job`].
    pub async fn state_of(self, app: &AppId, job: JobId) -> Result<Option<JobState>, Error> {
        let key = self.keys.job(app, job);
        let state: Option<String> = self.connection.clone().hget(&key, "state").await?;
        state
            .map(|state| state.parse().map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Returns the remaining retention of an ended job, s; `None` if it has not ended, or is
    /// unknown.
    pub async fn kept_s(self, app: &AppId, job: JobId) -> Result<Option<u64>, Error> {
        let left_s: i64 = self.connection.clone().ttl(self.keys.job(app, job)).await?;
        Ok(u64::try_from(left_s).ok())
    }

    /// Returns the number of jobs in front of a waiting job; `None` if it does not wait.
    pub async fn queue_position(self, app: &AppId, job: JobId) -> Result<Option<u64>, Error> {
        let key = self.keys.queued(app);
        Ok(self.connection.clone().zrank(key, job.to_string()).await?)
    }

    /// Returns the number of waiting jobs.
    pub async fn queue_length(self, app: &AppId) -> Result<u64, Error> {
        Ok(self.connection.clone().zcard(self.keys.queued(app)).await?)
    }
}

/// Returns the fields of a new record.
fn fields(spec: &JobSpec, plan: Option<&FlowPlan>) -> [(&'static str, Option<String>); 22] {
    fn text(value: Option<impl ToString>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    let headers = plan.map(|plan| &plan.headers);
    [
        ("input", Some(json(&spec.input))),
        ("stored_input", spec.stored_input.as_ref().map(json)),
        ("priority", Some(spec.priority.as_str().to_owned())),
        ("owner", text(spec.owner.as_ref())),
        ("hint", text(spec.hint.as_ref())),
        ("hint_source", spec.hint_source.as_ref().map(json)),
        (
            "path",
            Some(spec.path.clone()).filter(|path| !path.is_empty()),
        ),
        ("max_warm_wait_ms", text(spec.max_warm_wait_ms)),
        ("start_timeout_ms", text(spec.start_timeout_ms)),
        ("run_timeout_ms", text(spec.run_timeout_ms)),
        ("max_attempts", Some(spec.max_attempts.to_string())),
        ("reply_to", spec.reply_to.as_ref().map(json)),
        ("webhook", spec.webhook.clone()),
        ("retention_s", text(spec.retention_s)),
        ("no_store", spec.no_store.then(|| "1".to_owned())),
        ("links_s", text(spec.links_s)),
        ("route", (!spec.route.is_empty()).then(|| json(&spec.route))),
        ("step_of", spec.step_of.as_ref().map(json)),
        ("trace", text(spec.trace)),
        ("flow", plan.map(|plan| json(&plan.flow))),
        ("excerpt", plan.map(|plan| plan.excerpt.clone())),
        ("headers", headers.filter(|any| !any.is_empty()).map(json)),
    ]
}

/// Parses the reply of `create.lua` for a job that was submitted as `id`.
fn created(id: JobId, reply: &[&str]) -> Result<Created, Error> {
    Ok(match reply {
        ["created", now] => Created::New {
            id,
            created_ms: number(now)?,
        },
        ["known"] => Created::Known { id },
        ["another", owner] => Created::Known {
            id: owner
                .parse()
                .map_err(|error| Error::damaged("an idempotency key", error))?,
        },
        ["ended"] => Created::Ended,
        ["full", waiting] => Created::Full {
            waiting: number(waiting)?,
        },
        ["busy"] => Created::Busy,
        other => {
            let reason = format_args!("{other:?} is unknown");
            return Err(Error::damaged("a script's reply", reason));
        }
    })
}
