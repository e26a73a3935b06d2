//! A runner: one slot, one job at a time, life after life.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use warmq_process::retry::{until_available, until_success};
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};

use crate::consumer::ConsumeError;
use crate::context::WorkerContext;
use crate::engine;
use crate::engine::thread::EngineThread;
use crate::fault::Fault;
use crate::incarnation::{self, Incarnation, epoch_after};
use crate::recovery::{PROBE_BYTES, Recovery};
use crate::redis_grace::RedisGrace;

/// How long an engine may take to end with its worker.
const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the models of an idle runner may take to be checked: well below its lease.
const MODEL_CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeout for a heartbeat: jobs wait for it, and the lease lasts for three of them.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// One slot of a worker.
pub struct Runner {
    pub(crate) context: WorkerContext,
    pub(crate) id: RunnerId,
    pub(crate) engine: EngineThread,
    /// The engine's models.
    pub(crate) report: RunnerReport,
    /// Those that Redis knows of: others, while it is away.
    pub(crate) recorded_hints: Vec<Hint>,
    pub(crate) redis_grace: RedisGrace,
    /// Size of the files with which the storage is probed, bytes.
    pub(crate) probe_bytes: usize,
    pub(crate) epoch: Epoch,
}

/// How a runner begins.
pub enum RunnerStart {
    /// Idle.
    Joined(Box<Incarnation>),
    /// Its self-test did not pass.
    Faulty(Fault),
}

/// How a life ended.
pub(crate) enum IncarnationEnd {
    /// The worker stops.
    Stopped,
    /// RabbitMQ is gone.
    ConsumerLost(ConsumeError),
    /// Redis does not know the runner any more.
    Unregistered,
    /// It can serve other models than it said.
    ModelsChanged,
    /// It takes no jobs until its self-test passes.
    Faulty(Fault),
    /// Only a new process can help.
    Unrecoverable(Fault),
}

impl IncarnationEnd {
    /// The end of a life by this fault.
    pub(crate) fn by(fault: Fault) -> Self {
        match fault.is_unrecoverable() {
            true => Self::Unrecoverable(fault),
            false => Self::Faulty(fault),
        }
    }
}

/// What comes after a delivery.
pub(crate) enum AfterDelivery {
    /// The runner is free.
    Idle,
    /// The dispatcher claimed the runner for another job, which is on its way.
    AwaitClaimedJob,
    /// This life is over.
    End(IncarnationEnd),
}

impl Runner {
    /// A runner with an engine, not joined yet.
    ///
    /// # Errors
    /// There is no engine.
    pub async fn new(context: WorkerContext, id: RunnerId) -> Result<Self, engine::BuildError> {
        let engine = start_engine(&context, &id).await?;
        Ok(Self {
            recorded_hints: engine.report.hints.clone(),
            report: engine.report.clone(),
            redis_grace: RedisGrace::default(),
            probe_bytes: PROBE_BYTES,
            context,
            id,
            engine,
            epoch: Epoch(0),
        })
    }

    /// Tests itself, and begins a first life if that passes, once the servers are there. `None`: the worker stops.
    ///
    /// # Errors
    /// RabbitMQ or Redis refuses, or another process has the runner's name.
    pub async fn start(&mut self) -> Result<Option<RunnerStart>, incarnation::Error> {
        let stop = self.context.stop.clone();
        let me = incarnation::registration(
            &self.context,
            &self.id,
            self.epoch,
            &self.engine.description,
            &self.report,
        );
        let named = until_available(&stop, incarnation::Error::is_final, || {
            incarnation::await_name(&self.context, &me)
        });
        if named.await?.is_none() {
            return Ok(None);
        }
        if let Err(fault) = self.self_test().await {
            return Ok(Some(RunnerStart::Faulty(fault)));
        }
        let epoch = &mut self.epoch;
        let (context, id) = (&self.context, &self.id);
        let (description, report) = (&self.engine.description, &self.report);
        let joined = until_available(&stop, incarnation::Error::is_final, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(context, id, *epoch, description, report)
        });
        let joined = joined.await?;
        Ok(joined.map(|incarnation| RunnerStart::Joined(Box::new(incarnation))))
    }

    /// What the engine is.
    pub fn description(&self) -> &engine::Description {
        &self.engine.description
    }

    /// Runs jobs until the worker stops. Returns the fault for which only a new process can help, if there was one.
    pub async fn run(mut self, start: RunnerStart) -> Option<Fault> {
        let mut start = Some(start);
        let unrecoverable = loop {
            let mut incarnation = match start.take() {
                Some(RunnerStart::Joined(incarnation)) => *incarnation,
                Some(RunnerStart::Faulty(fault)) if fault.is_unrecoverable() => break Some(fault),
                Some(RunnerStart::Faulty(fault)) => match self.recover(fault).await {
                    Recovery::Healthy => continue,
                    Recovery::Stopped => break None,
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
                IncarnationEnd::ConsumerLost(reason) => {
                    tracing::warn!(runner = %self.id, %reason, "lost RabbitMQ; joining again");
                }
                IncarnationEnd::Unregistered => {
                    tracing::warn!(runner = %self.id, "Redis does not know this runner as it is; joining again");
                }
                IncarnationEnd::ModelsChanged => {
                    let models = self.engine.description.models.join(", ");
                    tracing::info!(runner = %self.id, models, "the models that can be served changed; joining again");
                }
                IncarnationEnd::Faulty(fault) => start = Some(RunnerStart::Faulty(fault)),
                IncarnationEnd::Unrecoverable(fault) => break Some(fault),
            }
        };
        let redis_grace = match unrecoverable {
            Some(_) => Duration::ZERO,
            None => ENGINE_STOP_TIMEOUT,
        };
        if !self.engine.stop(redis_grace).await {
            tracing::warn!(runner = %self.id, "the engine is still at work; it ends with the process");
        }
        unrecoverable
    }

    /// A new life, as soon as RabbitMQ and Redis let it; `None` if the worker stops before.
    async fn rejoin(&mut self) -> Option<Incarnation> {
        let epoch = &mut self.epoch;
        let (context, id) = (&self.context, &self.id);
        let (description, report) = (&self.engine.description, &self.report);
        let joined = until_success("joining", &context.stop, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(context, id, *epoch, description, report)
        });
        let incarnation = joined.await?;
        tracing::info!(runner = %self.id, epoch = incarnation.epoch.0, "joined again");
        self.recorded_hints.clone_from(&self.report.hints);
        Some(incarnation)
    }

    /// One life: idle, a delivery, idle, …
    async fn run_incarnation(&mut self, incarnation: &mut Incarnation) -> IncarnationEnd {
        let stop = self.context.stop.clone();
        let mut heartbeats = tokio::time::interval(self.context.intervals.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut model_checks = tokio::time::interval_at(
            Instant::now() + self.context.intervals.model_check,
            self.context.intervals.model_check,
        );
        model_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a claim that lost us a shared job: until then only the own queue is read.
        let mut expecting: Option<Instant> = None;
        loop {
            if expecting.is_none()
                && let Err(lost) = incarnation.consumers.attach_shared().await
            {
                return IncarnationEnd::ConsumerLost(lost);
            }
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return IncarnationEnd::Stopped,
                // Before the next job: a runner whose jobs are short and many would never get to it, and lose its lease.
                // Never beside a start: a heartbeat of an idle runner makes it claimable.
                _ = heartbeats.tick() => {
                    if !self.heartbeat(incarnation.epoch).await {
                        return IncarnationEnd::Unregistered;
                    }
                    continue;
                }
                delivery = incarnation.consumers.next() => match delivery {
                    Ok(delivery) => delivery,
                    Err(lost) => return IncarnationEnd::ConsumerLost(lost),
                },
                () = wait_until(expecting) => {
                    expecting = None;
                    continue;
                }
                _ = model_checks.tick() => match self.check_models(incarnation).await {
                    Some(end) => return end,
                    None => continue,
                },
            };
            let kept = match incarnation.consumers.keep_one(first).await {
                Ok(kept) => kept,
                Err(lost) => return IncarnationEnd::ConsumerLost(lost),
            };
            expecting = match self.handle_delivery(incarnation, kept).await {
                AfterDelivery::Idle => None,
                AfterDelivery::AwaitClaimedJob => {
                    Some(Instant::now() + self.context.config.accept_timeout)
                }
                AfterDelivery::End(end) => return end,
            };
        }
    }

    /// False: the runner is not registered (any more) as it is.
    async fn heartbeat(&self, epoch: Epoch) -> bool {
        let WorkerContext {
            store,
            config,
            intervals,
            ..
        } = &self.context;
        let heartbeat = store.heartbeat(&config.app, &self.id, epoch, intervals.lease, false);
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, heartbeat).await {
            Ok(Ok(known)) => known && self.recorded_hints == self.report.hints,
            Ok(Err(error)) => {
                tracing::warn!(runner = %self.id, %error, "a heartbeat failed");
                true
            }
            Err(_) => {
                tracing::warn!(runner = %self.id, "redis did not answer a heartbeat in time");
                true
            }
        }
    }

    /// Whether the models that can be served are still those that this life began with; asked of an idle runner.
    async fn check_models(&mut self, incarnation: &Incarnation) -> Option<IncarnationEnd> {
        if incarnation.models.is_empty() {
            return None;
        }
        match tokio::time::timeout(MODEL_CHECK_TIMEOUT, self.engine.check()).await {
            Ok(Ok(models)) => {
                self.engine.description.models = models;
                (self.engine.description.models != incarnation.models)
                    .then_some(IncarnationEnd::ModelsChanged)
            }
            Ok(Err(fault)) => Some(IncarnationEnd::by(fault)),
            // The self-test finds out whether it hangs for good.
            Err(_) => {
                let fault = Fault::new(FaultKind::Model, "the folder of models does not respond");
                Some(IncarnationEnd::Faulty(fault))
            }
        }
    }
}

pub(crate) async fn start_engine(
    context: &WorkerContext,
    id: &RunnerId,
) -> Result<EngineThread, engine::BuildError> {
    let options = context.config.engine.clone();
    let runner = id.clone();
    EngineThread::start(id, move || engine::build(&options, &runner)).await
}

/// Waits until `time`, or for ever.
pub(crate) async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
