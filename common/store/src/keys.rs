//! All Redis keys. No other file spells one.

use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, IdempotencyKey, JobId, KeyId, Namespace, RunnerId};

/// Keys of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    namespace: Namespace,
}

impl Keys {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { namespace }
    }

    fn of_app(&self, app: &AppId, rest: impl std::fmt::Display) -> String {
        format!("{}:{{{app}}}:{rest}", self.namespace)
    }

    /// Set: apps with a live or past worker.
    pub(super) fn apps(&self) -> String {
        format!("{}:apps", self.namespace)
    }

    /// Sorted set: unused apps, by the time since when (Unix ms).
    pub(super) fn unused_apps(&self) -> String {
        format!("{}:unused_apps", self.namespace)
    }

    /// Returns the keys of which at least one exists while an app is in use. Empty sets have no
    /// key.
    pub(super) fn in_use(&self, app: &AppId) -> [String; 5] {
        [
            self.queued(app),
            self.overflow_queues(app),
            self.runners(app),
            self.lost_runner_jobs(app),
            self.outbox(app),
        ]
    }

    /// Returns the keys of which at least one exists while an app's leader has work.
    pub(super) fn pending(&self, app: &AppId) -> [String; 4] {
        [
            self.queued(app),
            self.start_deadlines(app),
            self.lost_runner_jobs(app),
            self.outbox(app),
        ]
    }

    /// Returns the keys that change when a job ends, besides its record and its place in a queue,
    /// and the channel of ended jobs.
    pub(super) fn ending(&self, app: &AppId, job: JobId) -> [String; 10] {
        [
            self.outbox(app),
            self.log(app, job),
            self.active(app),
            self.tombstone(app, job),
            self.job_list(),
            self.job_list_trims(),
            self.job_app(job),
            self.history(app),
            self.usage_of_days(),
            self.ended_jobs(),
        ]
    }

    /// Returns the keys that change when a job is queued again.
    pub(super) fn requeueing(&self, app: &AppId, job: JobId) -> [String; 5] {
        [
            self.job(app, job),
            self.queued(app),
            self.start_deadlines(app),
            self.log(app, job),
            self.job_list(),
        ]
    }

    /// Sorted set: the job list, over all apps; see job_list.rs.
    pub(super) fn job_list(&self) -> String {
        format!("{}:job_list", self.namespace)
    }

    /// Sorted set: `<job> <app> <state> <owner> <hint>` of ended jobs, by the end of their
    /// retention (Unix ms), at which they leave the job list.
    pub(super) fn job_list_trims(&self) -> String {
        format!("{}:job_list_trims", self.namespace)
    }

    /// Sorted set: `<route> <id>` of active flows, by the time of their next evaluation (Unix ms).
    pub(super) fn scheduled_flows(&self) -> String {
        format!("{}:scheduled_flows", self.namespace)
    }

    /// String: written to test writes.
    pub(super) fn check(&self) -> String {
        format!("{}:check", self.namespace)
    }

    /// Pub/sub channel: tests the delivery of messages.
    pub(super) fn check_channel(&self) -> String {
        format!("{}:checked", self.namespace)
    }

    /// Two keys in different slots of a Redis Cluster.
    pub(super) fn in_two_slots(&self) -> [String; 2] {
        ["a", "b"].map(|tag| format!("{}:{{{tag}}}", self.namespace))
    }

    /// Hash: counts by `<key or ''> <app> <name>` of the jobs that ended on a day (number of days
    /// since the Unix epoch).
    pub(super) fn usage(&self, day: i64) -> String {
        format!("{}{day}", self.usage_of_days())
    }

    /// Start of the keys of [`Keys::usage`].
    pub(super) fn usage_of_days(&self) -> String {
        format!("{}:usage:", self.namespace)
    }

    /// String: a secret that all routers share.
    pub(super) fn secret(&self, name: &str) -> String {
        format!("{}:secret:{name}", self.namespace)
    }

    /// Sorted set: `<oldest> <speaks>`, the protocol versions of live routers and workers, by the
    /// end of their lease (Unix ms).
    pub(super) fn protocols(&self) -> String {
        format!("{}:protocols", self.namespace)
    }

    /// Hash: API keys (JSON, with the hash of the secret) by id.
    pub(super) fn api_keys(&self) -> String {
        format!("{}:api_keys", self.namespace)
    }

    /// String: the time at which a key's bucket is full again, Unix ms.
    pub(super) fn rate(&self, key: &KeyId) -> String {
        format!("{}:rate:{key}", self.namespace)
    }

    /// String: a browser's session (JSON), by the hash of its token.
    pub(super) fn session(&self, name: &str) -> String {
        format!("{}:session:{name}", self.namespace)
    }

    /// String: the app of a job, to find it by its id alone.
    pub(super) fn job_app(&self, job: JobId) -> String {
        format!("{}:job:{job}", self.namespace)
    }

    /// String: exists while files below a folder of the storage are kept on request.
    pub(super) fn kept_files(&self, folder: &str) -> String {
        format!("{}:kept_files:{folder}", self.namespace)
    }

    /// String: exists between two cleanups of the storage.
    pub(super) fn cleanup(&self) -> String {
        format!("{}:cleanup", self.namespace)
    }

    /// String: tombstone of a job whose record goes before copies of its message do.
    pub(super) fn tombstone(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:tombstone"))
    }

    /// Sorted set: apps to which an owner with bounded jobs submits, by its latest submission (Unix
    /// ms).
    pub(super) fn apps_of(&self, owner: &KeyId) -> String {
        format!("{}:apps_of:{owner}", self.namespace)
    }

    /// Hash: a job's record.
    pub(super) fn job(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}"))
    }

    /// List: the log of a job (JSON).
    pub(super) fn log(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:log"))
    }

    /// List: events of a job's stream (JSON).
    pub(super) fn events(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:events"))
    }

    /// Sorted set: waiting jobs by arrival.
    pub(super) fn queued(&self, app: &AppId) -> String {
        self.of_app(app, "queued")
    }

    /// Set: `<lane>[.<key>]` of the overflow queues that may exist.
    pub(super) fn overflow_queues(&self, app: &AppId) -> String {
        self.of_app(app, "overflow_queues")
    }

    /// String: the job of a submitter's idempotency key, per owner.
    pub(super) fn idempotency(
        &self,
        app: &AppId,
        owner: Option<&KeyId>,
        key: &IdempotencyKey,
    ) -> String {
        match owner {
            None => self.of_app(app, format_args!("idem:{key}")),
            Some(owner) => self.of_app(app, format_args!("idem@{owner}:{key}")),
        }
    }

    /// Sorted set: `<owner> <job>` of active jobs with an owner, all with score 0, so an owner's
    /// are a range.
    pub(super) fn active(&self, app: &AppId) -> String {
        self.of_app(app, "active")
    }

    /// String: the app that a route chose for a submitter's idempotency key.
    pub(super) fn route_choice(
        &self,
        route: &AppId,
        owner: Option<&KeyId>,
        key: &IdempotencyKey,
    ) -> String {
        match owner {
            None => self.of_app(route, format_args!("route_choice:{key}")),
            Some(owner) => self.of_app(route, format_args!("route_choice@{owner}:{key}")),
        }
    }

    /// Set: live runners that report `hint`.
    pub(super) fn hint(&self, app: &AppId, hint: &Hint) -> String {
        self.of_app(app, format_args!("hint:{hint}"))
    }

    /// Set: live runners that report no models.
    pub(super) fn blank(&self, app: &AppId) -> String {
        self.of_app(app, "blank")
    }

    /// Sorted set: models that runners can load, by the latest registration that lists them (Unix
    /// ms).
    pub(super) fn models(&self, app: &AppId) -> String {
        self.of_app(app, "models")
    }

    /// Set: runners that can be claimed.
    pub(super) fn idle(&self, app: &AppId) -> String {
        self.of_app(app, "idle")
    }

    /// Sorted set: runners by the end of their lease.
    pub(super) fn runners(&self, app: &AppId) -> String {
        self.of_app(app, "runners")
    }

    /// Set: runners that take no jobs until their self-test passes.
    pub(super) fn faulty(&self, app: &AppId) -> String {
        self.of_app(app, "faulty")
    }

    /// Set: live runners that take no further job and leave.
    pub(super) fn draining(&self, app: &AppId) -> String {
        self.of_app(app, "draining")
    }

    /// Hash: registration and report of a runner.
    pub(super) fn runner(&self, app: &AppId, runner: &RunnerId) -> String {
        self.of_app(app, format_args!("runner:{runner}"))
    }

    /// List: changes of a runner's models that it has not taken yet (JSON).
    pub(super) fn model_changes(&self, app: &AppId, runner: &RunnerId) -> String {
        self.of_app(app, format_args!("runner:{runner}:model_changes"))
    }

    /// String: the process that was requested to drain a runner.
    pub(super) fn drain_request(&self, app: &AppId, runner: &RunnerId) -> String {
        self.of_app(app, format_args!("runner:{runner}:drain_request"))
    }

    /// String: the leader of the app.
    pub(super) fn leader(&self, app: &AppId) -> String {
        self.of_app(app, "leader")
    }

    /// String: policy of the leader's latest session: `warm`, `fal`.
    pub(super) fn leader_policy(&self, app: &AppId) -> String {
        self.of_app(app, "leader_policy")
    }

    /// String: the JSON Schema of the app's input, as its workers publish it.
    pub(super) fn schema(&self, app: &AppId) -> String {
        self.of_app(app, "schema")
    }

    /// Sorted set: jobs whose runner was lost, by the time of the loss (Unix ms).
    pub(super) fn lost_runner_jobs(&self, app: &AppId) -> String {
        self.of_app(app, "lost_runner_jobs")
    }

    /// Sorted set: `<runner> <epoch>` of ended incarnations, by the time of their end (Unix ms).
    /// Their queues may still exist.
    pub(super) fn ended(&self, app: &AppId) -> String {
        self.of_app(app, "ended")
    }

    /// Sorted set: the outbox, ended jobs whose event may not be published yet, by the time of
    /// their end (Unix ms).
    pub(super) fn outbox(&self, app: &AppId) -> String {
        self.of_app(app, "outbox")
    }

    /// String: how the app is scaled (JSON).
    pub(super) fn scaling(&self, app: &AppId) -> String {
        self.of_app(app, "scaling")
    }

    /// Hash: statistics of each model.
    pub(super) fn stats(&self, app: &AppId) -> String {
        self.of_app(app, "stats")
    }

    /// Hash: a ring of the last day's minutes: ends of jobs and waits (JSON).
    pub(super) fn history(&self, app: &AppId) -> String {
        self.of_app(app, "history")
    }

    /// Sorted set: jobs by their deadline to start.
    pub(super) fn start_deadlines(&self, app: &AppId) -> String {
        self.of_app(app, "start_deadlines")
    }

    /// Pub/sub channel: ids of cancelled jobs.
    pub(super) fn cancelled(&self, app: &AppId) -> String {
        self.of_app(app, "cancelled")
    }

    /// Pub/sub channel: ids of ended jobs, over all apps.
    pub(super) fn ended_jobs(&self) -> String {
        format!("{}:ended_jobs", self.namespace)
    }

    /// String: the reply address of a job that was submitted again (JSON).
    pub(super) fn reply_to(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:reply_to"))
    }

    /// String: the reply address that received a job's outcome (JSON).
    pub(super) fn replied(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:replied"))
    }

    /// Hash: the state of a job's webhook delivery, and of which end.
    pub(super) fn webhook(&self, app: &AppId, job: JobId) -> String {
        self.of_app(app, format_args!("job:{job}:webhook"))
    }

    /// Pub/sub channel: a runner can be claimed, took a job by itself, or is gone.
    pub(super) fn runner_events(&self, app: &AppId) -> String {
        self.of_app(app, "runner_events")
    }
}
