//! A runner: runs one job at a time, through all its incarnations.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use warmq_process::retry::{until_available, until_success};
use warmq_store::{Heartbeat, SharedQueueConsumer};
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};

use crate::attempt;
use crate::consumer::ConsumeError;
use crate::context::WorkerContext;
use crate::engine;
use crate::engine::thread::EngineThread;
use crate::fault::Fault;
use crate::incarnation::{self, Incarnation, epoch_after};
use crate::metrics::RunnerMetrics;
use crate::recovery::{self, Recovery};
use crate::redis_grace::RedisGrace;
use crate::runner_models;
use crate::self_test::{PROBE_BYTES, self_test};

/// Timeout for stopping the engine with its worker.
const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What follows a heartbeat that failed: idle runners run the jobs of the shared queue.
const WITHOUT_REDIS: Heartbeat = Heartbeat {
    shared_queue: SharedQueueConsumer::Runners,
    has_model_changes: false,
    is_draining: false,
};

/// Timeout for a heartbeat: jobs wait for it, and a lease spans three of them.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// A runner of a worker.
pub struct Runner {
    pub(crate) context: WorkerContext,
    pub(crate) id: RunnerId,
    pub(crate) engine: EngineThread,
    pub(crate) metrics: RunnerMetrics,
    /// The models that Redis has recorded: outdated after an outage.
    pub(crate) recorded_hints: Vec<Hint>,
    pub(crate) redis_grace: RedisGrace,
    /// Size of the files that probe the storage, bytes.
    pub(crate) probe_bytes: usize,
    pub(crate) epoch: Epoch,
}

/// The state of a runner after startup.
pub enum RunnerStart {
    /// Joined and idle.
    Joined(Box<Incarnation>),
    /// The self-test failed.
    Faulty(Fault),
}

/// Why an incarnation ended.
pub(crate) enum IncarnationEnd {
    /// The worker stops.
    Stopped,
    /// The runner was requested to leave.
    Drained,
    /// The connection to RabbitMQ is lost.
    ConsumerLost(ConsumeError),
    /// Redis has no such registration.
    Unregistered,
    /// The catalog or the inputs differ from the registered ones.
    DescriptionChanged,
    /// A fault: no jobs until the self-test passes.
    Faulty(Fault),
    /// A fault that only a new process can recover from.
    Unrecoverable(Fault),
}

impl IncarnationEnd {
    /// Returns the end caused by this fault.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        match fault.is_unrecoverable() {
            true => Self::Unrecoverable(fault),
            false => Self::Faulty(fault),
        }
    }
}

/// What follows a delivery.
pub(crate) enum AfterDelivery {
    /// The runner is idle.
    Idle,
    /// The dispatcher claimed the runner for another job, which will be delivered.
    AwaitClaimedJob,
    /// The incarnation ends.
    End(IncarnationEnd),
}

impl Runner {
    /// Builds the engine; the runner has not joined yet.
    ///
    /// # Errors
    /// The engine cannot be built.
    pub async fn new(context: WorkerContext, id: RunnerId) -> Result<Self, engine::BuildError> {
        let engine = start_engine(&context, &id).await?;
        let options = &context.config.engine;
        let (device, ram) = (options.memory_budget.0, options.ram_budget.0);
        Ok(Self {
            metrics: context.metrics.of_runner(&id, device, ram),
            recorded_hints: engine.report.hints.clone(),
            redis_grace: RedisGrace::default(),
            probe_bytes: PROBE_BYTES,
            context,
            id,
            engine,
            epoch: Epoch(0),
        })
    }

    /// Runs the self-test and joins if it passes, once the servers are reachable. Returns `None` if
    /// the worker stops first.
    ///
    /// # Errors
    /// RabbitMQ or Redis rejects the runner, or another process has its name.
    pub async fn start(&mut self) -> Result<Option<RunnerStart>, incarnation::Error> {
        let stop = self.context.stop.clone();
        let registration = incarnation::registration(
            &self.context,
            &self.id,
            self.epoch,
            &self.engine.description,
            &self.engine.report,
        );
        let named = until_available(&stop, incarnation::Error::is_final, || {
            incarnation::await_name(&self.context, &registration)
        });
        if named.await?.is_none() {
            return Ok(None);
        }
        if let Err(fault) = self_test(self).await {
            return Ok(Some(RunnerStart::Faulty(fault)));
        }
        self.recorded_hints.clone_from(&self.engine.report.hints);
        let epoch = &mut self.epoch;
        let (context, id) = (&self.context, &self.id);
        let (description, report) = (&self.engine.description, &self.engine.report);
        let joined = until_available(&stop, incarnation::Error::is_final, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(context, id, *epoch, description, report)
        });
        let joined = joined.await?;
        Ok(joined.map(|incarnation| RunnerStart::Joined(Box::new(incarnation))))
    }

    /// Returns the engine's description.
    pub fn description(&self) -> &engine::Description {
        &self.engine.description
    }

    /// Runs jobs until the worker stops or the runner is drained. Returns the fault that only a new
    /// process can recover from, if any.
    pub async fn run(mut self, start: RunnerStart) -> Option<Fault> {
        let mut start = Some(start);
        let unrecoverable = loop {
            let mut incarnation = match start.take() {
                Some(RunnerStart::Joined(incarnation)) => *incarnation,
                Some(RunnerStart::Faulty(fault)) if fault.is_unrecoverable() => break Some(fault),
                Some(RunnerStart::Faulty(fault)) => match recovery::recover(&mut self, fault).await
                {
                    Recovery::Healthy => continue,
                    Recovery::Stopped | Recovery::Drained => break None,
                    Recovery::Unrecoverable(fault) => break Some(fault),
                },
                None => match self.rejoin().await {
                    Some(incarnation) => incarnation,
                    None => break None,
                },
            };
            let end = self.run_incarnation(&mut incarnation).await;
            incarnation.leave(&self.context, &self.id).await;
            match end {
                IncarnationEnd::Stopped => break None,
                IncarnationEnd::Drained => {
                    tracing::info!(runner = %self.id, "drained on request: the runner left");
                    break None;
                }
                IncarnationEnd::ConsumerLost(reason) => {
                    tracing::warn!(
                        runner = %self.id, %reason,
                        "lost the connection to RabbitMQ: joining again"
                    );
                }
                IncarnationEnd::Unregistered => {
                    tracing::warn!(
                        runner = %self.id,
                        "redis has no matching registration of this runner: joining again"
                    );
                }
                IncarnationEnd::DescriptionChanged => {
                    let models = self.engine.description.models.join(", ");
                    tracing::info!(runner = %self.id, models, "the catalog changed: joining again");
                }
                IncarnationEnd::Faulty(fault) => start = Some(RunnerStart::Faulty(fault)),
                IncarnationEnd::Unrecoverable(fault) => break Some(fault),
            }
        };
        let timeout = match unrecoverable {
            Some(_) => Duration::ZERO,
            None => ENGINE_STOP_TIMEOUT,
        };
        if !self.engine.stop(timeout).await {
            tracing::warn!(runner = %self.id, "the engine did not stop: it ends with the process");
        }
        unrecoverable
    }

    /// Joins again once RabbitMQ and Redis are reachable. Returns `None` if the worker stops first.
    async fn rejoin(&mut self) -> Option<Incarnation> {
        self.engine.refresh();
        let epoch = &mut self.epoch;
        let (context, id) = (&self.context, &self.id);
        let (description, report) = (&self.engine.description, &self.engine.report);
        let joined = until_success("joining", &context.stop, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(context, id, *epoch, description, report)
        });
        let incarnation = joined.await?;
        tracing::info!(runner = %self.id, epoch = incarnation.epoch.0, "joined again");
        self.recorded_hints.clone_from(&self.engine.report.hints);
        Some(incarnation)
    }

    /// Takes deliveries until the incarnation ends.
    async fn run_incarnation(&mut self, incarnation: &mut Incarnation) -> IncarnationEnd {
        let stop = self.context.stop.clone();
        let mut heartbeats = tokio::time::interval(self.context.intervals.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut model_checks = tokio::time::interval_at(
            Instant::now() + self.context.intervals.model_check,
            self.context.intervals.model_check,
        );
        model_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Set after a claim took precedence over a shared job: until then only the own queue is
        // consumed.
        let mut claimed_until: Option<Instant> = None;
        // The first heartbeat, which is immediate, corrects this.
        let mut shared_queue = SharedQueueConsumer::Leader;
        loop {
            self.metrics.holds(&self.engine.report);
            let consumes_shared =
                claimed_until.is_none() && shared_queue == SharedQueueConsumer::Runners;
            if let Err(lost) = incarnation.consumers.set_shared(consumes_shared).await {
                return IncarnationEnd::ConsumerLost(lost);
            }
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return IncarnationEnd::Stopped,
                // Before the next job: otherwise a runner with many short jobs would lose its
                // lease. Never during a start: the heartbeat of an idle runner makes it claimable.
                _ = heartbeats.tick() => match self.follow_heartbeat(incarnation).await {
                    Ok(consumer) => {
                        shared_queue = consumer;
                        continue;
                    }
                    Err(end) => return end,
                },
                delivery = incarnation.consumers.next() => match delivery {
                    Ok(delivery) => delivery,
                    Err(lost) => return IncarnationEnd::ConsumerLost(lost),
                },
                () = wait_until(claimed_until) => {
                    claimed_until = None;
                    continue;
                }
                state = self.engine.changed() => match runner_models::take_state(self, incarnation, state).await {
                    Some(end) => return end,
                    None => continue,
                },
                _ = model_checks.tick() => match runner_models::check(self, incarnation).await {
                    Some(end) => return end,
                    None => continue,
                },
            };
            let kept = match incarnation.consumers.keep_one(first).await {
                Ok(kept) => kept,
                Err(lost) => return IncarnationEnd::ConsumerLost(lost),
            };
            claimed_until = match attempt::handle_delivery(self, incarnation, kept).await {
                AfterDelivery::Idle => None,
                AfterDelivery::AwaitClaimedJob => {
                    Some(Instant::now() + self.context.config.accept_timeout)
                }
                AfterDelivery::End(end) => return end,
            };
            if self.redis_grace.is_exhausted() {
                shared_queue = SharedQueueConsumer::Runners;
            }
        }
    }

    /// Sends a heartbeat and does what the answer requests. Returns who consumes the shared queue.
    async fn follow_heartbeat(
        &mut self,
        incarnation: &mut Incarnation,
    ) -> Result<SharedQueueConsumer, IncarnationEnd> {
        let heartbeat = self.heartbeat(incarnation.epoch).await;
        let heartbeat = heartbeat.ok_or(IncarnationEnd::Unregistered)?;
        if heartbeat.is_draining {
            return Err(IncarnationEnd::Drained);
        }
        if heartbeat.has_model_changes
            && let Some(end) = runner_models::change(self, incarnation).await
        {
            return Err(end);
        }
        Ok(heartbeat.shared_queue)
    }

    /// Renews the lease of an idle runner. Returns `None` if it is not registered with its current
    /// models.
    async fn heartbeat(&self, epoch: Epoch) -> Option<Heartbeat> {
        let WorkerContext {
            store,
            config,
            intervals,
            ..
        } = &self.context;
        let heartbeat =
            store
                .membership()
                .heartbeat(&config.app, &self.id, epoch, intervals.lease, false);
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, heartbeat).await {
            Ok(Ok(heartbeat)) => {
                heartbeat.filter(|_| self.recorded_hints == self.engine.report.hints)
            }
            Ok(Err(error)) => {
                tracing::warn!(runner = %self.id, %error, "a heartbeat failed");
                Some(WITHOUT_REDIS)
            }
            Err(_) => {
                tracing::warn!(runner = %self.id, "redis did not answer a heartbeat in time");
                Some(WITHOUT_REDIS)
            }
        }
    }
}

pub(crate) async fn start_engine(
    context: &WorkerContext,
    id: &RunnerId,
) -> Result<EngineThread, engine::BuildError> {
    let options = context.config.engine.clone();
    let first = options.first_change();
    let (shared, runner) = (context.shared.clone(), id.clone());
    let start = EngineThread::start(id, move || engine::build(&options, &shared, &runner));
    let mut engine = start.await?;
    if first.models().next().is_some() {
        runner_models::change_engine(&mut engine, id, first).await;
    }
    Ok(engine)
}

/// Waits until `time`, or forever.
pub(crate) async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
