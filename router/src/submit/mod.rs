//! The single entry for jobs, by HTTP and AMQP: check, resolve routes, derive the hint, record,
//! publish.
//!
//! | module | content |
//! | --- | --- |
//! | `submission`, `error` | the request and its possible errors |
//! | `amqp` | the consumer of AMQP submissions |
//! | `input`, `options` | body and options, parsed |
//! | `target` | the app that runs the job, or the route of the flow |
//! | `prepared` | the job, ready to be recorded and published |
//! | `step` | submission of a flow's steps |
//! | `stored_input` | inputs too large for messages and records |
//! | `quota` | rate and number of jobs per key |

pub mod amqp;
mod error;
mod input;
mod options;
mod prepared;
mod quota;
mod step;
mod stored_input;
mod submission;
mod target;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Mutex;
use warmq_broker::{Publisher, Topology};
use warmq_fetch::Fetcher;
use warmq_objects::Artifacts;
use warmq_store::{AdmissionRules, Created, Store};
use warmq_types::ids::{AppId, IdempotencyKey, JobId};
use warmq_types::job::JobSpec;
use warmq_types::message::FailureHistory;
use warmq_types::state::JobState;

use crate::access::Caller;
use crate::apps::AppDirectory;
use crate::files::{Links, now_s};
use crate::finalizer::Finalizer;
use crate::large_json::LargeJson;
use options::{JobOptions, shown};
use target::{RequestIdentity, Target};

pub use error::SubmitError;
pub use prepared::Prepared;
pub use step::FlowView;
pub use submission::{Accepted, Submission};

/// A valid submission: the job to be recorded, and its admission rules.
struct Checked {
    prepared: Prepared,
    key: Option<IdempotencyKey>,
    max_queue_length: Option<u64>,
    /// Number of jobs that its owner may have.
    max_jobs: Option<u64>,
    /// It may have been accepted before, and must not run again if it ended.
    once: bool,
}

/// A cheap handle for submitting jobs.
#[derive(Clone)]
pub struct Submitter {
    store: Store,
    publisher: Publisher,
    topology: Topology,
    apps: AppDirectory,
    finalizer: Finalizer,
    artifacts: Artifacts,
    links: Links,
    fetcher: Fetcher,
    max_input_bytes: usize,
    large: LargeJson,
    declared: Arc<Mutex<HashSet<AppId>>>,
}

/// What a [`Submitter`] needs besides the servers.
pub struct Options {
    /// Storage of large inputs.
    pub artifacts: Artifacts,
    pub(crate) links: Links,
    /// Checks webhook URLs.
    pub fetcher: Fetcher,
    /// Largest input, bytes of JSON.
    pub max_input_bytes: usize,
    /// Permits for work on large inputs.
    pub large: LargeJson,
}

impl Submitter {
    /// Returns a submitter to the given servers.
    pub fn new(
        store: Store,
        publisher: Publisher,
        topology: Topology,
        apps: AppDirectory,
        options: Options,
    ) -> Self {
        let Options {
            artifacts,
            links,
            fetcher,
            max_input_bytes,
            large,
        } = options;
        Self {
            finalizer: Finalizer::new(store.clone(), publisher.clone(), topology.clone()),
            store,
            publisher,
            topology,
            apps,
            artifacts,
            links,
            fetcher,
            max_input_bytes,
            large,
            declared: Arc::default(),
        }
    }

    /// Accepts a job if `caller` may submit it: once this returns, it is in Redis and in RabbitMQ.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
    ) -> Result<Accepted, SubmitError> {
        let app = AppId::parse(&submission.app)?;
        caller.may_submit_to(&app)?;
        // The parsed body occupies memory until the job is accepted.
        let _held = submission.held.clone();
        // Counts whether or not the submission succeeds.
        self.throttle(caller).await?;
        let mut checked = self.check(caller, app, submission).await?;
        checked.max_jobs = caller.limits().max_jobs;
        let (prepared, state, failures) = self.admit(checked).await?;
        // A known job that still waits is published again: its first submission may have failed
        // between record and publish.
        if state == JobState::Queued
            && let Err(error) =
                (self.publish(&prepared.job, prepared.plan.is_some(), failures)).await
        {
            // Not accepted: a record without a message would wait for ever. Kept if another
            // submission accepted it.
            let job = &prepared.job;
            let discarded = self.store.jobs().withdraw(&job.app, job.id).await;
            tracing::debug!(job.id = %job.id, ?discarded, "took back a submission");
            if let Ok(true) = discarded {
                self.drop_input(prepared.job.stored_input, None).await;
            }
            return Err(error);
        }
        let job = prepared.job;
        // Accepted, even if Redis fails from now on.
        let position = self.store.jobs().queue_position(&job.app, job.id).await;
        tracing::debug!(job.id = %job.id, job.app = %job.app, ?position, "accepted a job");
        Ok(Accepted {
            queue_position: position.ok().flatten().unwrap_or(0),
            job,
        })
    }

    /// Records the job. Returns it with its state (queued, or that of its first submission), and
    /// the failures of its attempts.
    async fn admit(
        &self,
        checked: Checked,
    ) -> Result<(Prepared, JobState, FailureHistory), SubmitError> {
        let Checked { mut prepared, .. } = checked;
        let stored = prepared.job.stored_input.clone();
        let job = &prepared.job;
        let terms = AdmissionRules {
            key: checked.key.as_ref(),
            max_queue_length: checked.max_queue_length,
            max_active: self.jobs_left(job, checked.max_jobs).await?,
            plan: prepared.plan.as_ref(),
            once: checked.once,
        };
        let mut created = self.record(job, terms).await?;
        if created == Created::Busy && self.overcounted(job).await? {
            created = self.record(job, terms).await?;
        }
        match created {
            Created::New { id, created_ms } => {
                (prepared.job.id, prepared.job.created_ms) = (id, created_ms);
                Ok((prepared, JobState::Queued, FailureHistory::default()))
            }
            Created::Known { id } => {
                prepared.job.id = id;
                let (job, state) = self.known(prepared.job).await?;
                self.drop_input(stored, job.stored_input.as_ref()).await;
                let failures = self
                    .store
                    .attempts()
                    .failure_history(&job.app, job.id)
                    .await?;
                Ok((Prepared { job, ..prepared }, state, failures))
            }
            Created::Ended => {
                self.drop_input(stored, None).await;
                Ok((prepared, JobState::Succeeded, FailureHistory::default()))
            }
            Created::Full { waiting } => {
                self.drop_input(stored, None).await;
                Err(SubmitError::QueueFull {
                    app: prepared.job.app,
                    waiting,
                    bound: checked.max_queue_length.unwrap_or_default(),
                })
            }
            Created::Busy => {
                self.drop_input(stored, None).await;
                Err(SubmitError::TooManyJobs(
                    checked.max_jobs.unwrap_or_default(),
                ))
            }
        }
    }

    /// Returns a job that was submitted before, as its first submission recorded it. `again`: the
    /// repeated one. An AMQP submitter expects a reply, so the event of an ended job is published
    /// again.
    async fn known(&self, again: JobSpec) -> Result<(JobSpec, JobState), SubmitError> {
        if let Some(reply_to) = &again.reply_to {
            self.store.replies().set_address(&again, reply_to).await?;
        }
        let Some(first) = self.store.jobs().job_of(&again.app, again.id).await? else {
            return Ok((again, JobState::Queued));
        };
        if again.reply_to.is_some() && first.state.is_terminal() {
            self.finalizer.announce(&again, first.state).await?;
        }
        Ok((first.spec, first.state))
    }

    /// Checks everything that depends on the submission alone.
    async fn check(
        &self,
        caller: &Caller,
        name: AppId,
        submission: Submission,
    ) -> Result<Checked, SubmitError> {
        input::check_encoding(submission.content_encoding.as_deref())?;
        let declared = self.apps.declared();
        let key = (submission.idempotency_key.as_deref())
            .map(|text| IdempotencyKey::parse(text).map_err(SubmitError::InvalidKey))
            .transpose()?;
        let id = submission.id.unwrap_or_else(JobId::generate);
        let turn = self.large.turn(submission.body.len()).await;
        let (destination, mut input) = match declared.routes.get(&name) {
            None => (
                Target::App(self.find_app(&declared, name.clone(), Vec::new()).await?),
                turn.run(|| input::read(&submission.body))?,
            ),
            Some(_) => {
                let input = turn.run(|| input::read(&submission.body))?;
                let (key, owner) = (key.as_ref(), caller.owner());
                let identity = RequestIdentity {
                    job: id,
                    key,
                    owner,
                };
                let what = (&submission, &input, &turn);
                let through = self.resolve_route(name.clone(), &declared, what, identity);
                (through.await?, input)
            }
        };
        if let Target::App(reached) = &destination {
            turn.run(|| reached.takes(&mut input))?;
        }
        // Workers read files by reference and assume that the submitter may read each.
        turn.run(|| self.links.take(&mut input, now_s()))
            .map_err(SubmitError::InvalidInput)?;
        let options = JobOptions::read(&submission)?;
        let own_bound = (submission.max_queue_length.as_deref())
            .map(|text| {
                // The header allows this many waiting jobs; the bound refuses from the next one on.
                text.parse::<u64>()
                    .map(|most| most.saturating_add(1))
                    .map_err(|_| SubmitError::InvalidQueueLength(shown(text)))
            })
            .transpose()?;
        if let Some(url) = &submission.webhook {
            self.fetcher
                .check(url)
                .map_err(SubmitError::InvalidWebhook)?;
        }
        let job = JobSpec {
            id,
            path: submission.path,
            owner: caller.owner().cloned(),
            reply_to: submission.reply_to,
            webhook: submission.webhook,
            // Replaced by the target below.
            ..JobSpec::new(name, input)
        };
        let bounds = |apps_own: Option<u64>| own_bound.into_iter().chain(apps_own).min();
        let (mut prepared, max_queue_length) = match destination {
            Target::App(reached) => {
                let bound = bounds(reached.app.config.max_queue_length);
                (Prepared::job(reached, job, options)?, bound)
            }
            Target::Flow(route) => {
                let headers = submission.headers;
                let prepared = Prepared::flow(route, (job, options), (&declared, headers))?;
                let first = self.beginning(&prepared, &declared, &turn).await?;
                let bound = bounds(declared.config(&first.app).max_queue_length);
                self.check_queue(&first.app, bound).await?;
                // Flows wait only for a moment until they start.
                (prepared, None)
            }
        };
        self.store_input(&mut prepared.job, turn).await?;
        Ok(Checked {
            prepared,
            key,
            max_queue_length,
            max_jobs: None,
            once: submission.redelivered,
        })
    }

    /// # Errors
    /// The app's queue is at its bound.
    async fn check_queue(&self, app: &AppId, bound: Option<u64>) -> Result<(), SubmitError> {
        let Some(bound) = bound else {
            return Ok(());
        };
        match self.store.jobs().queue_length(app).await? {
            waiting if waiting >= bound => Err(SubmitError::QueueFull {
                app: app.clone(),
                waiting,
                bound,
            }),
            _ => Ok(()),
        }
    }
}
