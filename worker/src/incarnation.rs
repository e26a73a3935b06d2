//! One life of a runner between two connections: an epoch, a queue of its own, a registration.
//!
//! A lost connection ends it. The next one gets a fresh epoch and so a fresh queue: a queue that was gone may have taken
//! jobs with it, and a name used twice would hide that.

use std::time::Duration;

use lapin::{Channel, Connection};
use warmq_broker::DeclareError;
use warmq_process::clock::unix_ms;
use warmq_store::{NameConflict, Registration, RunnerReport};
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};

use crate::config::host;
use crate::consumer::{ConsumeError, Consumers};
use crate::context::WorkerContext;
use crate::engine::Description;

/// After it left, a runner still looks for a job that was sent to it before, this long.
const LATE_DELIVERY_WAIT: Duration = Duration::from_millis(200);

/// How long the broker may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the lease of a name's former holder is looked at.
const NAME_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Why a runner can not join.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RabbitMQ does not answer.
    #[error(transparent)]
    Amqp(#[from] warmq_broker::Error),
    /// RabbitMQ answers, but not as it should.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// Redis does not answer.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// Another process is the runner of this name.
    #[error(
        "runner '{runner}' is alive already, on host {} (pid {}): give this worker another --runner-name, or stop that \
         one", holder.host, holder.pid
    )]
    NameTaken {
        /// The name.
        runner: RunnerId,
        /// Its holder.
        holder: NameConflict,
    },
}

impl Error {
    /// Returns whether waiting is no remedy: the settings must change, here or in a server.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Amqp(error) => error.is_final(),
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

/// One life of a runner.
pub struct Incarnation {
    /// Its number.
    pub epoch: Epoch,
    /// Its deliveries.
    pub consumers: Consumers,
    /// The models that it said it can serve.
    pub models: Vec<String>,
    declaring: Channel,
    connection: Connection,
}

impl Incarnation {
    /// Connects, declares, registers, consumes.
    ///
    /// # Errors
    /// RabbitMQ or Redis is away.
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
        let name = format!("warmq-worker {runner} consume");
        // Before anything is declared: a runner that can not register would leave a queue behind at every attempt.
        context.store.ping().await?;
        let registration = registration(context, runner, epoch, description, report);
        check_name(context, &registration).await?;
        let connection = warmq_broker::connect_for_jobs(&config.servers.amqp_url, &name).await?;
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
        context
            .store
            .register(
                &registration,
                &description.input_schema,
                context.intervals.lease,
            )
            .await?;
        Ok(Self {
            epoch,
            consumers,
            models: description.models.clone(),
            declaring,
            connection,
        })
    }

    /// Ends this life: the worker stops, the connection broke, or the registration is gone. A job that was sent before
    /// and comes now goes back to the dispatcher.
    pub async fn leave(mut self, context: &WorkerContext, runner: &RunnerId) {
        // First, so that the dispatcher sends nothing to a queue without a reader.
        if let Err(error) = context
            .store
            .leave(&context.config.app, runner, self.epoch)
            .await
        {
            tracing::warn!(%runner, %error, "could not take leave; the runner's lease will lapse");
        }
        let goodbye = async {
            self.consumers.detach_shared().await?;
            let last_look = tokio::time::sleep(LATE_DELIVERY_WAIT);
            tokio::pin!(last_look);
            loop {
                tokio::select! {
                    () = &mut last_look => break,
                    late = self.consumers.next_own() => late?.nack().await,
                }
            }
            self.consumers.end().await?;
            context
                .topology
                .delete_runner(&self.declaring, runner, self.epoch)
                .await?;
            let done = self.connection.close(200, "the runner leaves".into());
            done.await.map_err(ConsumeError::from)
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            // Always so after a lost connection. The broker deletes the queue by itself, some time later.
            Ok(Err(error)) => tracing::debug!(%error, "left the runner's queue behind"),
            Err(_) => tracing::debug!("left the runner's queue behind: RabbitMQ is slow"),
        }
    }
}

/// What a runner says of itself.
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
        models: (description.models.iter())
            .filter_map(|model| Hint::parse(model).ok())
            .collect(),
        report: report.clone(),
    }
}

/// Two processes of one name would throw each other out for ever.
async fn check_name(context: &WorkerContext, registration: &Registration) -> Result<(), Error> {
    match context.store.rival(registration).await? {
        None => Ok(()),
        Some(holder) => Err(Error::NameTaken {
            runner: registration.runner.clone(),
            holder,
        }),
    }
}

/// Waits until the name is free: the lease of a worker that was killed lapses, that of one that lives is renewed.
///
/// # Errors
/// [`Error::NameTaken`] by a live process, or Redis is unreachable.
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
            runner = %registration.runner, host = holder.host, pid = holder.pid, remaining_ms = holder.remaining_ms,
            "another worker had this runner's name; waiting until its lease lapses"
        );
        let wait = NAME_CHECK_INTERVAL.min(Duration::from_millis(holder.remaining_ms + 1));
        tokio::time::sleep(wait).await;
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
