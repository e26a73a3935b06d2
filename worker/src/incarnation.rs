//! A runner's incarnation, from joining to leaving: an epoch, a queue of its own, a registration.
//!
//! Each reconnect gets a new epoch and a new queue: a queue that was deleted may have contained
//! jobs, and reusing its name would hide that.

use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use tokio::time::Instant;
use warmq_broker::DeclareError;
use warmq_process::clock::unix_ms;
use warmq_store::{NameConflict, Registration, RunnerReport};
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};

use crate::config::host;
use crate::consume_channel::OpenChannel;
use crate::consumer::{ConsumeError, Consumers};
use crate::context::WorkerContext;
use crate::engine::Description;

/// Time for which an unregistered runner still returns jobs that were sent to it.
const LATE_DELIVERY_WAIT: Duration = Duration::from_millis(200);

/// Timeout for ending a runner's consumers, or closing the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Interval at which the lease of a name's previous holder is checked.
const NAME_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why a runner cannot join.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RabbitMQ is unreachable, or rejected a declaration.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// Redis is unreachable.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// Another process has this runner's name.
    #[error(
        "runner '{runner}' is alive on host {} (pid {}): set another --runner-name, or stop that \
         worker", holder.host, holder.pid
    )]
    NameTaken {
        /// The name.
        runner: RunnerId,
        /// The process that has it.
        holder: NameConflict,
    },
}

impl Error {
    /// Returns whether retrying is useless: settings must change, here or in a server.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Declare(error) => error.is_final(),
            Self::Store(error) => error.is_final(),
            Self::NameTaken { .. } => true,
        }
    }
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        Self::Declare(error.into())
    }
}

/// A runner's incarnation.
pub struct Incarnation {
    /// The epoch.
    pub epoch: Epoch,
    /// The consumers.
    pub consumers: Consumers,
    /// The description that it registered.
    pub description: Description,
    /// When its models were recorded last.
    pub(crate) models_recorded: Instant,
    /// Shared with the other runners of the process.
    connection: Arc<Connection>,
}

/// Closes the connection once all runners have left.
pub(crate) async fn disconnect(context: &WorkerContext) {
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, context.consume_channel.close());
    if closed.await.is_err() {
        tracing::debug!("could not close the connection to RabbitMQ: it is slow");
    }
}

impl Incarnation {
    /// Connects, declares, registers, consumes.
    ///
    /// # Errors
    /// RabbitMQ or Redis is unreachable.
    pub async fn open(
        context: &WorkerContext,
        runner: &RunnerId,
        epoch: Epoch,
        description: &Description,
        report: &RunnerReport,
    ) -> Result<Self, Error> {
        let WorkerContext {
            config, topology, ..
        } = context;
        let app = &config.app;
        // Pings before anything is declared: otherwise each failed registration would leave a queue
        // behind.
        context.store.ping().await?;
        let registration = registration(context, runner, epoch, description, report);
        check_name(context, &registration).await?;
        let OpenChannel {
            connection,
            channel,
        } = context.consume_channel.get().await?;
        let declaring = connection.create_channel().await?;
        topology.declare_app(&declaring, app).await?;
        topology
            .declare_runner(&declaring, app, runner, epoch, config.accept_timeout)
            .await?;
        declaring.close(200, "declared".into()).await?;
        let consumers = Consumers::new(
            channel,
            &topology.runner_queue(runner, epoch),
            topology.shared_queue(app),
        )
        .await?;
        context
            .store
            .membership()
            .register(
                &registration,
                &description.input_schema,
                context.intervals.lease,
            )
            .await?;
        Ok(Self {
            epoch,
            consumers,
            description: description.clone(),
            models_recorded: Instant::now(),
            connection,
        })
    }

    /// Unregisters, returns late deliveries to the dispatcher, ends the consumers and deletes the
    /// queue.
    pub async fn leave(mut self, context: &WorkerContext, runner: &RunnerId) {
        // First, so that the dispatcher sends no further jobs to this queue.
        if let Err(error) = context
            .store
            .membership()
            .leave(&context.config.app, runner, self.epoch)
            .await
        {
            tracing::warn!(%runner, %error, "could not unregister the runner: its lease will lapse");
        }
        let close = async {
            self.consumers.detach_shared().await?;
            let late_deliveries = tokio::time::sleep(LATE_DELIVERY_WAIT);
            tokio::pin!(late_deliveries);
            loop {
                tokio::select! {
                    () = &mut late_deliveries => break,
                    late = self.consumers.next_own() => late?.nack().await,
                }
            }
            self.consumers.end().await?;
            let deleting = self.connection.create_channel().await?;
            context
                .topology
                .delete_runner(&deleting, runner, self.epoch)
                .await?;
            let done = deleting.close(200, "the runner leaves".into());
            done.await.map_err(ConsumeError::from)
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, close).await {
            Ok(Ok(())) => {}
            // Expected after a lost connection. The broker deletes the queue when it expires.
            Ok(Err(error)) => tracing::debug!(%error, "could not delete the runner's queue"),
            Err(_) => tracing::debug!("could not delete the runner's queue: RabbitMQ is slow"),
        }
    }
}

/// Builds a runner's registration.
pub(crate) fn registration(
    context: &WorkerContext,
    runner: &RunnerId,
    epoch: Epoch,
    description: &Description,
    report: &RunnerReport,
) -> Registration {
    let config = &context.config;
    Registration {
        app: config.app.clone(),
        runner: runner.clone(),
        epoch,
        host: host(),
        pid: std::process::id(),
        instance: context.instance.to_string(),
        engine: config.engine.kind.to_string(),
        device: description.device.clone(),
        memory_budget_bytes: config.engine.memory_budget.0,
        ram_budget_bytes: config.engine.ram_budget.0,
        models: models(description),
        report: report.clone(),
    }
}

/// Returns the catalog.
pub(crate) fn models(description: &Description) -> Vec<Hint> {
    let models = description.models.iter();
    models.filter_map(|model| Hint::parse(model).ok()).collect()
}

/// Rejects a name that a live process has: two processes with one name would replace each other's
/// registration forever.
async fn check_name(context: &WorkerContext, registration: &Registration) -> Result<(), Error> {
    match context.store.faults().name_conflict(registration).await? {
        None => Ok(()),
        Some(holder) => Err(Error::NameTaken {
            runner: registration.runner.clone(),
            holder,
        }),
    }
}

/// Waits until the name is free: the lease of a killed worker lapses, that of a live one is
/// renewed.
///
/// # Errors
/// [`Error::NameTaken`] if a live process has the name, or Redis is unreachable.
pub(crate) async fn await_name(
    context: &WorkerContext,
    registration: &Registration,
) -> Result<(), Error> {
    let mut first_lease_until_ms = None;
    loop {
        let refused = check_name(context, registration).await;
        let Err(Error::NameTaken { holder, .. }) = &refused else {
            return refused;
        };
        let first = *first_lease_until_ms.get_or_insert(holder.lease_until_ms);
        if holder.lease_until_ms > first || context.stop.is_cancelled() {
            return refused;
        }
        tracing::info!(
            runner = %registration.runner, host = holder.host, pid = holder.pid,
            remaining_ms = holder.remaining_ms,
            "another worker has this runner's name: waiting for its lease to lapse"
        );
        let wait = NAME_CHECK_INTERVAL.min(Duration::from_millis(holder.remaining_ms + 1));
        tokio::time::sleep(wait).await;
    }
}

/// Returns an epoch later than `last`: Unix ms, unless the clock went back.
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
