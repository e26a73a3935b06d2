//! Runs flows: submissions to routes that take several steps (`sequence`, `fallback`).
//!
//! | module | what it holds |
//! | --- | --- |
//! | `advance` | one look at a flow: what came of its step, and what follows |
//! | `moved` | what a look found, until it is stored |
//! | `next` | what follows: pure |
//! | `versions` | what was declared when a flow began |
//!
//! A look needs no reason: it reads the flow's record and its step's, and does whatever is due. So
//! it may come too often, twice at a time, or after the router that looked before died halfway: the
//! record says which move was the last, a step's id follows from its flow's, and whoever finds a
//! step without a job submits it again. What makes a router look is an event (a flow was accepted,
//! a step ended), which is acknowledged after the look; and, should an event be lost or time pass
//! without one, a list in Redis of when each flow is looked at at the latest
//! (`Store::take_due_flows`).

mod advance;
mod decide;
mod transition;
mod versions;

use std::time::Duration;

use futures::future::join_all;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;
use warmq_broker::Topology;
use warmq_process::retry;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use crate::apps::AppDirectory;
use crate::finalizer::Finalizer;
use crate::metrics::Metrics;
use crate::queue_consumer::QueueConsumer;
use crate::session_error::SessionError;
use crate::submit::Submitter;
use advance::StepConfidence;
use versions::Versions;

/// Events in work at once.
const PREFETCH: u16 = 64;

/// How often flows are looked for that are due.
const DUE_FLOWS_INTERVAL: Duration = Duration::from_secs(1);

/// Flows that are due and looked at in one round; the others come in the next.
const DUE_FLOWS_BATCH: usize = 100;

/// When a flow is due again whose look came to nothing: Redis or RabbitMQ is away, or this router
/// dies.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// When a flow is due again whose record cannot be read.
const UNREADABLE_RETRY_DELAY: Duration = Duration::from_secs(10 * 60);

/// What runs flows.
#[derive(Clone)]
pub struct Flows {
    store: Store,
    amqp_url: ServerUrl,
    topology: Topology,
    submitter: Submitter,
    finalizer: Finalizer,
    apps: AppDirectory,
    metrics: Metrics,
    versions: Versions,
}

impl Flows {
    /// Over the given servers. `submitter`: the door that steps go through.
    pub fn new(
        store: Store,
        amqp_url: ServerUrl,
        topology: Topology,
        submitter: Submitter,
        finalizer: Finalizer,
        apps: AppDirectory,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            amqp_url,
            topology,
            submitter,
            finalizer,
            apps,
            metrics,
            versions: Versions::default(),
        }
    }

    /// Moves flows on as events come, until `shutdown`, over as many connections as it takes.
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn follow_events(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let events = QueueConsumer {
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

    /// Looks at flows that are due without an event, until `shutdown`.
    ///
    /// # Errors
    /// Never; while Redis is away it goes on trying.
    pub async fn run_due_flows(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        while let Some(due) =
            retry::until_success("looking for flows that are due", &shutdown, || {
                self.store.flows().take_due(RETRY_DELAY, DUE_FLOWS_BATCH)
            })
            .await
        {
            // There may be more of them.
            let wait = match due.len() < DUE_FLOWS_BATCH {
                true => DUE_FLOWS_INTERVAL,
                false => Duration::ZERO,
            };
            let evaluations = due.into_iter().map(|(route, flow)| {
                let flows = &self;
                async move {
                    match flows.advance(&route, flow, StepConfidence::Heard).await {
                        Ok(()) => {}
                        Err(error) if error.is_damage() => flows.put_off(&route, flow, &error).await,
                        Err(error) => {
                            tracing::warn!(flow.id = %flow, %error, "could not advance a flow; it is due again soon");
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

    /// A flow's record cannot be read, perhaps since a router of another version wrote it: it is
    /// looked at seldom.
    async fn put_off(&self, route: &AppId, flow: JobId, error: &SessionError) {
        tracing::error!(flow.id = %flow, %error, "a flow cannot go on");
        if let Err(error) = self
            .store
            .flows()
            .schedule(route, flow, UNREADABLE_RETRY_DELAY)
            .await
        {
            tracing::debug!(flow.id = %flow, %error, "it is due again soon");
        }
    }

    async fn handle(&self, delivery: Delivery) -> Result<(), SessionError> {
        match JobEvent::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped an event that cannot be read"),
            Ok(event) => {
                // Whoever had it before may have died halfway.
                let doubt = match delivery.redelivered {
                    true => StepConfidence::Unsure,
                    false => StepConfidence::Heard,
                };
                if let Some((route, flow)) = concerned(event) {
                    self.advance(&route, flow, doubt).await?;
                }
            }
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}

/// The flow that an event concerns: one that was accepted, or the one whose step ended.
fn concerned(event: JobEvent) -> Option<(AppId, JobId)> {
    match event.state {
        JobState::Queued => Some((event.app, event.job_id)),
        _ => event.step_of.map(|step| (step.route, step.flow)),
    }
}
