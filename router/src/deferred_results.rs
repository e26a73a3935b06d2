//! Stores deferred results once Redis is reachable, and publishes their events.

use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, acknowledgement};
use warmq_process::clock::unix_ms;
use warmq_store::Store;
use warmq_types::message::{DeferredResult, Versioned};
use warmq_types::server_url::ServerUrl;

use crate::finalizer::Finalizer;
use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;

const PREFETCH: u16 = 64;

/// Consumer of results that workers could not store.
pub struct DeferredResults {
    pub(crate) store: Store,
    pub(crate) amqp_url: ServerUrl,
    pub(crate) topology: Topology,
    pub(crate) finalizer: Finalizer,
}

impl DeferredResults {
    /// Stores results until `shutdown`, reconnecting as needed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let ends = ReconnectingConsumer {
            what: "deferred results",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.deferred_results_queue(),
            prefetch: PREFETCH,
            max_concurrent: 1,
        };
        ends.each(&shutdown, |delivery| self.store(delivery)).await;
        Ok(())
    }

    async fn store(&self, delivery: Delivery) -> Result<(), SessionError> {
        match DeferredResult::decode(&delivery.data) {
            Err(error) => tracing::warn!(%error, "dropped a deferred result that cannot be read"),
            Ok(end) => {
                let ago_ms = unix_ms().saturating_sub(end.since_ms);
                let stored = self.store.outage_attempts().end(&end, ago_ms).await?;
                let job = &end.job;
                tracing::info!(job.id = %job.id, runner = %end.runner, stored, "stored a deferred result");
                // Publishes also for a redelivered message: the router that stored the result may
                // have crashed before the publish.
                let state = self.store.jobs().state_of(&job.app, job.id).await?;
                if let Some(state) = state.filter(|state| state.is_terminal()) {
                    self.finalizer.announce(job, state).await?;
                }
            }
        }
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }
}
