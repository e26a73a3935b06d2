//! The single entry for jobs, by HTTP and AMQP.
//!
//! | module | content |
//! | --- | --- |
//! | `submission`, `error` | a submission as received, and its possible errors |
//! | `amqp` | the consumer of AMQP submissions |
//! | `request`, `input`, `options` | parses a submission: body and options |
//! | `target` | resolves the app that runs the job, or the route of the flow |
//! | `build_job`, `model` | builds the job, whose model a runner must list |
//! | `quota` | rate and number of jobs per key |
//! | `input_store` | inputs too large for messages and records |
//! | `admission` | records and publishes the job of a submission |
//! | `job_writer` | records and publishes any job |

mod admission;
pub(crate) mod amqp;
mod build_job;
mod error;
mod input;
mod input_store;
mod job_writer;
mod model;
mod options;
mod quota;
mod request;
mod submission;
mod target;

use std::time::SystemTime;

use warmq_broker::{Publisher, Topology};
use warmq_fetch::Fetcher;
use warmq_objects::ObjectStorage;
use warmq_store::Store;
use warmq_traces::{Parent, Span, SpanKind, Traces};
use warmq_types::ids::AppId;
use warmq_types::job::JobSpec;

use crate::access::Caller;
use crate::apps::AppDirectory;
use crate::files::{SignedUrls, now_s, references};
use crate::finalizer::Finalizer;
use crate::flow::StepPreparer;
use crate::large_json::{LargeJson, LargeJsonPermit};
use crate::routing_config::RoutingConfig;
use admission::{Admission, Candidate};
use quota::Quota;
use request::Request;

pub(crate) use build_job::{Draft, Prepared};
pub(crate) use error::SubmitError;
pub(crate) use input_store::InputStore;
pub(crate) use job_writer::{JobWriter, Publication};
pub(crate) use options::JobOptions;
pub(crate) use submission::{Accepted, Submission};
pub(crate) use target::{SubmissionTarget, TargetResolver};

/// A cheap handle for submitting jobs.
#[derive(Clone)]
pub(crate) struct Submitter {
    quota: Quota,
    apps: AppDirectory,
    targets: TargetResolver,
    signed_urls: SignedUrls,
    fetcher: Fetcher,
    admission: Admission,
    max_input_bytes: usize,
    pub(crate) large: LargeJson,
    pub(crate) steps: StepPreparer,
    pub(crate) inputs: InputStore,
    pub(crate) jobs: JobWriter,
    traces: Traces,
}

/// What a [`Submitter`] needs besides the servers.
pub(crate) struct Options {
    pub(crate) storage: ObjectStorage,
    pub(crate) signed_urls: SignedUrls,
    /// Checks webhook URLs.
    pub(crate) fetcher: Fetcher,
    pub(crate) max_input_bytes: usize,
    pub(crate) large: LargeJson,
    pub(crate) traces: Traces,
}

impl Submitter {
    /// Returns a submitter to the given servers.
    pub(crate) fn new(
        store: Store,
        publisher: Publisher,
        topology: Topology,
        apps: AppDirectory,
        options: Options,
    ) -> Self {
        let finalizer = Finalizer::new(store.clone(), publisher.clone(), topology.clone());
        let quota = Quota::new(store.clone());
        let targets = TargetResolver::new(apps.clone(), store.clone());
        let inputs = InputStore::new(options.storage, options.large.clone());
        let jobs = JobWriter::new(store.clone(), publisher, topology, inputs.clone());
        Self {
            admission: Admission {
                store,
                quota: quota.clone(),
                finalizer,
                inputs: inputs.clone(),
                jobs: jobs.clone(),
            },
            quota,
            apps,
            steps: StepPreparer::new(targets.clone(), options.max_input_bytes),
            targets,
            signed_urls: options.signed_urls,
            fetcher: options.fetcher,
            max_input_bytes: options.max_input_bytes,
            large: options.large,
            inputs,
            jobs,
            traces: options.traces,
        }
    }

    /// Accepts a job if `caller` may submit it: once this returns, it is in Redis and in RabbitMQ.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub(crate) async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
    ) -> Result<Accepted, SubmitError> {
        let start = SystemTime::now();
        // The parsed body occupies memory until the job is accepted.
        let _held = submission.held.clone();
        let name = AppId::parse(&submission.app)?;
        caller.may_submit_to(&name)?;
        // Counts whether or not the submission succeeds.
        self.quota.throttle(caller).await?;

        let permit = self.large.permit(submission.body.len()).await;
        let mut request = permit.run(|| Request::parse(name, caller, submission))?;
        let mut span = self.begin_trace(&mut request.draft.job, start);
        let accepted = self.submit_request(request, permit).await;
        match &accepted {
            Ok(accepted) => span.set_job(&accepted.job),
            Err(error) => span.fail(error.to_string()),
        }
        accepted
    }

    /// Begins the span of a submission, which the job's later spans continue.
    fn begin_trace(&self, job: &mut JobSpec, start: SystemTime) -> Span {
        let span = (self.traces).span("submit", SpanKind::Server, Parent::of(job), start);
        job.trace = span.traceparent();
        span
    }

    async fn submit_request(
        &self,
        mut request: Request,
        permit: LargeJsonPermit,
    ) -> Result<Accepted, SubmitError> {
        if let Some(url) = &request.draft.job.webhook {
            (self.fetcher.check(url)).map_err(SubmitError::InvalidWebhook)?;
        }

        let routing = self.apps.routing();
        let target = self.targets.resolve(&request, &routing, &permit).await?;
        let JobSpec { path, input, .. } = &mut request.draft.job;
        permit.run(|| target.validate(path, input))?;
        // Workers read files by reference and assume that the submitter may read each.
        permit
            .run(|| references::from_signed_urls(input, &self.signed_urls, now_s()))
            .map_err(SubmitError::InvalidInput)?;

        let mut candidate = self.build(request, target, &routing, &permit).await?;
        (self.inputs.store(&mut candidate.prepared.job, permit)).await?;
        let recorded = self.admission.record(candidate).await?;
        self.admission.publish(&recorded).await?;
        Ok(self.admission.accepted(recorded.job).await)
    }

    /// Builds the job and its admission bounds. The first step of a flow is checked, so that its
    /// errors are reported at once.
    async fn build(
        &self,
        request: Request,
        target: SubmissionTarget,
        routing: &RoutingConfig,
        permit: &LargeJsonPermit,
    ) -> Result<Candidate, SubmitError> {
        let own_bound = request.max_queue_length;
        let bound = |apps_own: Option<u64>| own_bound.into_iter().chain(apps_own).min();
        let (prepared, max_queue_length) = match target {
            SubmissionTarget::App(target) => {
                let bound = bound(target.app.config.max_queue_length);
                (self.targets.job(&target, request.draft).await?, bound)
            }
            SubmissionTarget::Flow(target) => {
                let prepared = Prepared::flow(target, request.draft, routing);
                let first = self.steps.first_job(&prepared, routing, permit).await?;
                let bound = bound(routing.config(&first.app).max_queue_length);
                self.admission.check_queue(&first.app, bound).await?;
                // Flows wait only for a moment until they start.
                (prepared, None)
            }
        };
        Ok(Candidate {
            prepared,
            key: request.key,
            max_queue_length,
            max_jobs: request.max_jobs,
            once: request.redelivered,
        })
    }
}
