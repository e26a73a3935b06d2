//! Runs flows: submissions to routes of several steps (`sequence`, `fallback`).
//!
//! | module | content |
//! | --- | --- |
//! | `evaluator` | evaluates a flow: read, decide, store, submit |
//! | `transition` | the changes of an evaluation before they are stored |
//! | `decide` | how a flow proceeds: pure |
//! | `expression_values`, `steps` | inputs of the steps; their submission |
//! | `excerpts` | the declarations at the start of a flow, parsed from its record |
//!
//! Evaluation is an idempotent reconcile with optimistic concurrency: it reads the records of the
//! flow and its current step, and does what is due. It may run at any time, concurrently, or after
//! a crash of another router: the record has a version, a step's id derives from its flow, and a
//! begun step without a job is submitted again. Evaluations are caused by events (flow accepted,
//! step ended), acked afterwards, and by a list in Redis of when each flow is due without one
//! (`Flows::take_due`).

mod decide;
mod evaluator;
mod excerpts;
mod expression_values;
mod steps;
mod transition;

use std::time::Duration;

use futures::future::join_all;
use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, acknowledgement};
use warmq_process::retry;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use crate::apps::AppDirectory;
use crate::finalizer::Finalizer;
use crate::metrics::Metrics;
use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;
use crate::submit::Submitter;
use evaluator::{Evaluator, StepPublish};
use excerpts::Excerpts;
use steps::StepSubmitter;

pub(crate) use expression_values::FlowView;
pub(crate) use steps::StepPreparer;

/// Events handled at once.
const PREFETCH: u16 = 64;

/// Interval of the scan for due flows.
const DUE_FLOWS_INTERVAL: Duration = Duration::from_secs(1);

/// Due flows per scan; the next scan takes the others.
const DUE_FLOWS_BATCH: usize = 100;

/// Delay after a failed evaluation: Redis or RabbitMQ is unreachable, or the router crashed.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Delay after an unreadable record.
const UNREADABLE_RETRY_DELAY: Duration = Duration::from_secs(10 * 60);

/// Runs flows.
#[derive(Clone)]
pub(crate) struct Flows {
    store: Store,
    amqp_url: ServerUrl,
    topology: Topology,
    evaluator: Evaluator,
}

impl Flows {
    /// Returns a runner of flows on the given servers. `submitter`: submits the steps.
    pub(crate) fn new(
        store: Store,
        amqp_url: ServerUrl,
        topology: Topology,
        submitter: Submitter,
        finalizer: Finalizer,
        apps: AppDirectory,
        metrics: Metrics,
    ) -> Self {
        Self {
            evaluator: Evaluator {
                steps: StepSubmitter::new(store.clone(), submitter),
                store: store.clone(),
                finalizer,
                apps,
                metrics,
                excerpts: Excerpts::default(),
            },
            store,
            amqp_url,
            topology,
        }
    }

    /// Evaluates flows on events until `shutdown`, reconnecting as needed.
    pub(crate) async fn follow_events(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let events = ReconnectingConsumer {
            what: "events of flows",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.flow_events_queue(),
            prefetch: PREFETCH,
            max_concurrent: usize::from(PREFETCH),
        };
        events
            .each(&shutdown, |delivery| self.handle(delivery))
            .await;
        Ok(())
    }

    /// Evaluates due flows without an event until `shutdown`.
    pub(crate) async fn run_due_flows(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        while let Some(due) = retry::until_success("reading the due flows", &shutdown, || {
            self.store.flows().take_due(RETRY_DELAY, DUE_FLOWS_BATCH)
        })
        .await
        {
            // A full batch: more flows may be due.
            let wait = match due.len() < DUE_FLOWS_BATCH {
                true => DUE_FLOWS_INTERVAL,
                false => Duration::ZERO,
            };
            let evaluations = due.into_iter().map(|(route, flow)| {
                let flows = &self;
                async move {
                    match flows.evaluator.evaluate(&route, flow, StepPublish::Done).await {
                        Ok(()) => {}
                        Err(error) if error.is_damage() => flows.put_off(&route, flow, &error).await,
                        Err(error) => {
                            tracing::warn!(flow.id = %flow, %error, "could not evaluate a flow; it is retried");
                        }
                    }
                }
            });
            join_all(evaluations).await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Delays a flow with an unreadable record, perhaps of a router of another version.
    async fn put_off(&self, route: &AppId, flow: JobId, error: &SessionError) {
        tracing::error!(flow.id = %flow, %error, "a flow cannot continue");
        if let Err(error) = self
            .store
            .flows()
            .schedule(route, flow, UNREADABLE_RETRY_DELAY)
            .await
        {
            tracing::debug!(flow.id = %flow, %error, "could not delay a flow; it is retried soon");
        }
    }

    async fn handle(&self, delivery: Delivery) -> Result<(), SessionError> {
        match JobEvent::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped an event that cannot be read"),
            Ok(event) => {
                // The consumer of the first delivery may have crashed.
                let published_step = match delivery.redelivered {
                    true => StepPublish::Unsure,
                    false => StepPublish::Done,
                };
                if let Some((route, flow)) = flow_of(event) {
                    self.evaluator
                        .evaluate(&route, flow, published_step)
                        .await?;
                }
            }
        }
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }
}

/// Returns the flow of an event: the accepted one, or the one whose step ended.
fn flow_of(event: JobEvent) -> Option<(AppId, JobId)> {
    match event.state {
        JobState::Queued => Some((event.app, event.job_id)),
        _ => event.step_of.map(|step| (step.route, step.flow)),
    }
}
