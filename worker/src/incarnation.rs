//! One life of a runner between two connections: an epoch, a queue of its own, a registration.
//!
//! A lost connection ends it. The next one gets a fresh epoch and so a fresh queue: a queue that was gone may have taken
//! jobs with it, and a name used twice would hide that.

use std::time::Duration;

use lapin::{Channel, Connection};
use warmq_common::amqp::{self, DeclareError};
use warmq_common::clock::unix_ms;
use warmq_common::ids::{Epoch, RunnerId};
use warmq_common::store::{self, Registration, RunnerReport};

use crate::config::host;
use crate::consumer::{Consumers, Lost};
use crate::engine::Description;
use crate::shared::Shared;

/// After it left, a runner still looks for a job that was sent to it before, this long.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// How long the broker may take to say goodbye.
const CLOSING: Duration = Duration::from_secs(3);

/// Why a runner can not join.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RabbitMQ does not answer.
    #[error(transparent)]
    Amqp(#[from] amqp::Error),
    /// RabbitMQ answers, but not as it should.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// Redis does not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Returns whether waiting is no remedy: the settings must change, here or in a server.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Amqp(error) => error.is_final(),
            Self::Declare(error) => error.is_final(),
            Self::Store(error) => error.is_final(),
        }
    }
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        Self::Declare(error.into())
    }
}

/// One life of a runner.
pub struct Incarnation {
    /// Its number.
    pub epoch: Epoch,
    /// Its deliveries.
    pub consumers: Consumers,
    declaring: Channel,
    connection: Connection,
}

impl Incarnation {
    /// Connects, declares, registers, consumes.
    ///
    /// # Errors
    /// RabbitMQ or Redis is away.
    pub async fn open(
        shared: &Shared,
        runner: &RunnerId,
        epoch: Epoch,
        description: &Description,
        report: &RunnerReport,
    ) -> Result<Self, Error> {
        let Shared {
            config, topology, ..
        } = shared;
        let app = &config.app;
        let name = format!("warmq-worker {runner} consume");
        // Before anything is declared: a runner that can not register would leave a queue behind at every attempt.
        shared.store.ping().await?;
        let connection = amqp::connect_for_jobs(&config.servers.amqp_url, &name).await?;
        let declaring = connection.create_channel().await?;
        topology.declare_base(&declaring).await?;
        topology.declare_app(&declaring, app).await?;
        topology
            .declare_runner(&declaring, app, runner, epoch, config.accept_timeout)
            .await?;
        let consumers = Consumers::new(
            &connection,
            &topology.runner_queue(runner, epoch),
            topology.shared_queue(app),
        )
        .await?;
        let registration = Registration {
            app: app.clone(),
            runner: runner.clone(),
            epoch,
            host: host(),
            pid: std::process::id(),
            engine: config.engine.kind.to_string(),
            device: description.device.clone(),
            memory_budget_bytes: config.engine.memory_budget.0,
            report: report.clone(),
        };
        shared
            .store
            .register(&registration, &description.input_schema, shared.pace.lease)
            .await?;
        Ok(Self {
            epoch,
            consumers,
            declaring,
            connection,
        })
    }

    /// Ends this life: the worker stops, the connection broke, or the registration is gone. A job that was sent before
    /// and comes now goes back to the dispatcher.
    pub async fn leave(mut self, shared: &Shared, runner: &RunnerId) {
        // First, so that the dispatcher sends nothing to a queue without a reader.
        if let Err(error) = shared
            .store
            .leave(&shared.config.app, runner, self.epoch)
            .await
        {
            tracing::warn!(%runner, %error, "could not take leave; the runner's lease will lapse");
        }
        let goodbye = async {
            self.consumers.detach_shared().await?;
            let last_look = tokio::time::sleep(LAST_LOOK);
            tokio::pin!(last_look);
            loop {
                tokio::select! {
                    () = &mut last_look => break,
                    late = self.consumers.next_own() => late?.give_back().await,
                }
            }
            self.consumers.end().await?;
            shared
                .topology
                .delete_runner(&self.declaring, runner, self.epoch)
                .await?;
            let done = self.connection.close(200, "the runner leaves".into());
            done.await.map_err(Lost::from)
        };
        match tokio::time::timeout(CLOSING, goodbye).await {
            Ok(Ok(())) => {}
            // Always so after a lost connection. The broker deletes the queue by itself, some time later.
            Ok(Err(error)) => tracing::debug!(%error, "left the runner's queue behind"),
            Err(_) => tracing::debug!("left the runner's queue behind: RabbitMQ is slow"),
        }
    }
}

/// An epoch later than `last`: Unix ms, unless the clock went back.
pub fn epoch_after(last: Epoch) -> Epoch {
    Epoch(unix_ms().max(last.0 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_even_when_the_clock_goes_back() {
        let future = Epoch(u64::MAX - 1);
        assert_eq!(epoch_after(future), Epoch(u64::MAX));
        assert!(epoch_after(Epoch(0)).0 > 1_700_000_000_000);
    }
}
