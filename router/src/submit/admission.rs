//! Records the job of a submission within the bounds of its queue and its owner, and publishes it.

use warmq_store::{AdmissionRules, Created, Store};
use warmq_types::ids::{AppId, IdempotencyKey};
use warmq_types::job::JobSpec;
use warmq_types::message::FailureHistory;
use warmq_types::state::JobState;

use super::quota::Quota;
use super::{Accepted, InputStore, JobWriter, Prepared, Publication, SubmitError};
use crate::finalizer::Finalizer;

/// A job with its admission bounds.
pub(super) struct Candidate {
    pub(super) prepared: Prepared,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) max_queue_length: Option<u64>,
    /// Number of jobs that its owner may have.
    pub(super) max_jobs: Option<u64>,
    /// It may have been accepted before, and must not run again if it ended.
    pub(super) once: bool,
}

/// A recorded job, of this submission or of the first one with its id or idempotency key.
pub(super) struct Recorded {
    pub(super) job: JobSpec,
    is_flow: bool,
    state: JobState,
    failures: FailureHistory,
}

/// A cheap handle for admitting jobs.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) store: Store,
    pub(super) quota: Quota,
    pub(super) finalizer: Finalizer,
    pub(super) inputs: InputStore,
    pub(super) jobs: JobWriter,
}

impl Admission {
    /// Records a job, or returns the known one.
    ///
    /// # Errors
    /// The queue or the owner is at its bound, or a server is unreachable.
    pub(super) async fn record(&self, candidate: Candidate) -> Result<Recorded, SubmitError> {
        let created = self.create(&candidate).await?;
        let Prepared { mut job, plan } = candidate.prepared;
        let stored_input = job.stored_input.clone();
        let recorded = |job, state, failures| Recorded {
            job,
            is_flow: plan.is_some(),
            state,
            failures,
        };
        let unused = match created {
            Created::New { id, created_ms } => {
                (job.id, job.created_ms) = (id, created_ms);
                return Ok(recorded(job, JobState::Queued, FailureHistory::default()));
            }
            Created::Known { id } => {
                job.id = id;
                let (first, state) = self.known(job).await?;
                if first.stored_input != stored_input {
                    self.inputs.delete(stored_input).await;
                }
                let failures =
                    (self.store.attempts().failure_history(&first.app, first.id)).await?;
                return Ok(recorded(first, state, failures));
            }
            Created::Ended => Ok(recorded(
                job,
                JobState::Succeeded,
                FailureHistory::default(),
            )),
            Created::Full { waiting } => Err(SubmitError::QueueFull {
                app: job.app,
                waiting,
                bound: candidate.max_queue_length.unwrap_or_default(),
            }),
            Created::Busy => Err(SubmitError::TooManyJobs(
                candidate.max_jobs.unwrap_or_default(),
            )),
        };
        self.inputs.delete(stored_input).await;
        unused
    }

    async fn create(&self, candidate: &Candidate) -> Result<Created, SubmitError> {
        let Prepared { job, plan } = &candidate.prepared;
        let rules = AdmissionRules {
            key: candidate.key.as_ref(),
            max_queue_length: candidate.max_queue_length,
            max_active: self.quota.jobs_left(job, candidate.max_jobs).await?,
            plan: plan.as_ref(),
            once: candidate.once,
        };
        match self.jobs.create(job, rules).await? {
            Created::Busy if self.quota.overcounted(job).await? => {
                self.jobs.create(job, rules).await
            }
            created => Ok(created),
        }
    }

    /// Returns the job of an earlier submission as recorded, with its state. `again`: the repeated
    /// one. An AMQP submitter expects a reply, so the event of an ended job is published again.
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

    /// Publishes a recorded job. A known one that still waits is published again: its first
    /// submission may have failed between record and publish.
    ///
    /// # Errors
    /// The message is not confirmed; the job is not accepted.
    pub(super) async fn publish(&self, recorded: &Recorded) -> Result<(), SubmitError> {
        if recorded.state != JobState::Queued {
            return Ok(());
        }
        let job = &recorded.job;
        let publication = Publication {
            job,
            is_flow: recorded.is_flow,
            failures: recorded.failures.clone(),
        };
        let published = self.jobs.publish(publication).await;
        if published.is_err() {
            // A record without a message would never run.
            let discarded = self.jobs.withdraw(job).await;
            tracing::debug!(job.id = %job.id, ?discarded, "discarded a job without a message");
        }
        published
    }

    /// Returns the response. The job is accepted, even if Redis fails from now on.
    pub(super) async fn accepted(&self, job: JobSpec) -> Accepted {
        let position = self.store.jobs().queue_position(&job.app, job.id).await;
        tracing::debug!(job.id = %job.id, job.app = %job.app, ?position, "accepted a job");
        Accepted {
            queue_position: position.ok().flatten().unwrap_or(0),
            job,
        }
    }

    /// # Errors
    /// The app's queue is at `bound`, or Redis is unreachable.
    pub(super) async fn check_queue(
        &self,
        app: &AppId,
        bound: Option<u64>,
    ) -> Result<(), SubmitError> {
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
