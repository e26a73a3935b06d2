//! A runner: one slot, one job at a time, life after life.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use warmq_process::retry::{until_available, until_success};
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};

use crate::consumer::Lost;
use crate::engine;
use crate::engine::thread::EngineThread;
use crate::fault::Fault;
use crate::incarnation::{self, Incarnation, epoch_after};
use crate::patience::Patience;
use crate::recovery::{PROBE_BYTES, Recovery};
use crate::shared::Shared;

/// How long an engine may take to end with its worker.
const ENGINE_END: Duration = Duration::from_secs(2);

/// How long the models of an idle runner may take to be checked: well below its lease.
const MODEL_CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeout for a heartbeat: jobs wait for it, and the lease lasts for three of them.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// One slot of a worker.
pub struct Runner {
    pub(crate) shared: Shared,
    pub(crate) id: RunnerId,
    pub(crate) engine: EngineThread,
    /// The engine's models.
    pub(crate) report: RunnerReport,
    /// Those that Redis knows of: others, while it is away.
    pub(crate) known: Vec<Hint>,
    pub(crate) patience: Patience,
    /// Size of the files with which the storage is probed, bytes.
    pub(crate) probe_bytes: usize,
    pub(crate) epoch: Epoch,
}

/// How a runner begins.
pub enum Begin {
    /// Idle.
    Joined(Box<Incarnation>),
    /// Its self-test did not pass.
    FaultReport(Fault),
}

/// How a life ended.
pub(crate) enum End {
    /// The worker stops.
    Stopped,
    /// RabbitMQ is gone.
    Lost(Lost),
    /// Redis does not know the runner any more.
    Unregistered,
    /// It can serve other models than it said.
    ModelsChanged,
    /// It takes no jobs until its self-test passes.
    FaultReport(Fault),
    /// Only a new process can help.
    Ruined(Fault),
}

impl End {
    /// The end of a life by this fault.
    pub(crate) fn by(fault: Fault) -> Self {
        match fault.is_ruinous() {
            true => Self::Ruined(fault),
            false => Self::FaultReport(fault),
        }
    }
}

/// What comes after a delivery.
pub(crate) enum Next {
    /// The runner is free.
    Idle,
    /// The dispatcher claimed the runner for another job, which is on its way.
    Expect,
    /// This life is over.
    End(End),
}

impl Runner {
    /// A runner with an engine, not joined yet.
    ///
    /// # Errors
    /// There is no engine.
    pub async fn new(shared: Shared, id: RunnerId) -> Result<Self, engine::BuildError> {
        let engine = start_engine(&shared, &id).await?;
        Ok(Self {
            known: engine.report.hints.clone(),
            report: engine.report.clone(),
            patience: Patience::default(),
            probe_bytes: PROBE_BYTES,
            shared,
            id,
            engine,
            epoch: Epoch(0),
        })
    }

    /// Tests itself, and begins a first life if that passes, once the servers are there. `None`: the worker stops.
    ///
    /// # Errors
    /// RabbitMQ or Redis refuses, or another process has the runner's name.
    pub async fn begin(&mut self) -> Result<Option<Begin>, incarnation::Error> {
        let stop = self.shared.stop.clone();
        let me = incarnation::registration(
            &self.shared,
            &self.id,
            self.epoch,
            &self.engine.description,
            &self.report,
        );
        let named = until_available(&stop, incarnation::Error::is_final, || {
            incarnation::await_name(&self.shared, &me)
        });
        if named.await?.is_none() {
            return Ok(None);
        }
        if let Err(fault) = self.prove().await {
            return Ok(Some(Begin::FaultReport(fault)));
        }
        let epoch = &mut self.epoch;
        let (shared, id) = (&self.shared, &self.id);
        let (description, report) = (&self.engine.description, &self.report);
        let joined = until_available(&stop, incarnation::Error::is_final, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(shared, id, *epoch, description, report)
        });
        let joined = joined.await?;
        Ok(joined.map(|incarnation| Begin::Joined(Box::new(incarnation))))
    }

    /// What the engine is.
    pub fn description(&self) -> &engine::Description {
        &self.engine.description
    }

    /// Runs jobs until the worker stops. Returns the fault for which only a new process can help, if there was one.
    pub async fn run(mut self, begin: Begin) -> Option<Fault> {
        let mut begin = Some(begin);
        let ruin = loop {
            let mut incarnation = match begin.take() {
                Some(Begin::Joined(incarnation)) => *incarnation,
                Some(Begin::FaultReport(fault)) if fault.is_ruinous() => break Some(fault),
                Some(Begin::FaultReport(fault)) => match self.recover(fault).await {
                    Recovery::Healthy => continue,
                    Recovery::Stopped => break None,
                    Recovery::Ruined(fault) => break Some(fault),
                },
                None => match self.rejoin().await {
                    Some(incarnation) => incarnation,
                    None => break None,
                },
            };
            let end = self.live(&mut incarnation).await;
            incarnation.leave(&self.shared, &self.id).await;
            match end {
                End::Stopped => break None,
                End::Lost(reason) => {
                    tracing::warn!(runner = %self.id, %reason, "lost RabbitMQ; joining again");
                }
                End::Unregistered => {
                    tracing::warn!(runner = %self.id, "Redis does not know this runner as it is; joining again");
                }
                End::ModelsChanged => {
                    let models = self.engine.description.models.join(", ");
                    tracing::info!(runner = %self.id, models, "the models that can be served changed; joining again");
                }
                End::FaultReport(fault) => begin = Some(Begin::FaultReport(fault)),
                End::Ruined(fault) => break Some(fault),
            }
        };
        let patience = match ruin {
            Some(_) => Duration::ZERO,
            None => ENGINE_END,
        };
        if !self.engine.stop(patience).await {
            tracing::warn!(runner = %self.id, "the engine is still at work; it ends with the process");
        }
        ruin
    }

    /// A new life, as soon as RabbitMQ and Redis let it; `None` if the worker stops before.
    async fn rejoin(&mut self) -> Option<Incarnation> {
        let epoch = &mut self.epoch;
        let (shared, id) = (&self.shared, &self.id);
        let (description, report) = (&self.engine.description, &self.report);
        let joined = until_success("joining", &shared.stop, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(shared, id, *epoch, description, report)
        });
        let incarnation = joined.await?;
        tracing::info!(runner = %self.id, epoch = incarnation.epoch.0, "joined again");
        self.known.clone_from(&self.report.hints);
        Some(incarnation)
    }

    /// One life: idle, a delivery, idle, …
    async fn live(&mut self, incarnation: &mut Incarnation) -> End {
        let stop = self.shared.stop.clone();
        let mut heartbeats = tokio::time::interval(self.shared.pace.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut model_checks = tokio::time::interval_at(
            Instant::now() + self.shared.pace.model_check,
            self.shared.pace.model_check,
        );
        model_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a claim that lost us a shared job: until then only the own queue is read.
        let mut expecting: Option<Instant> = None;
        loop {
            if expecting.is_none()
                && let Err(lost) = incarnation.consumers.attach_shared().await
            {
                return End::Lost(lost);
            }
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                // Before the next job: a runner whose jobs are short and many would never get to it, and lose its lease.
                // Never beside a start: a heartbeat of an idle runner makes it claimable.
                _ = heartbeats.tick() => {
                    if !self.heartbeat(incarnation.epoch).await {
                        return End::Unregistered;
                    }
                    continue;
                }
                taken = incarnation.consumers.next() => match taken {
                    Ok(taken) => taken,
                    Err(lost) => return End::Lost(lost),
                },
                () = at(expecting) => {
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
                Err(lost) => return End::Lost(lost),
            };
            expecting = match self.attend(incarnation, kept).await {
                Next::Idle => None,
                Next::Expect => Some(Instant::now() + self.shared.config.accept_timeout),
                Next::End(end) => return end,
            };
        }
    }

    /// False: the runner is not registered (any more) as it is.
    async fn heartbeat(&self, epoch: Epoch) -> bool {
        let Shared {
            store,
            config,
            pace,
            ..
        } = &self.shared;
        let heartbeat = store.heartbeat(&config.app, &self.id, epoch, pace.lease, false);
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, heartbeat).await {
            Ok(Ok(known)) => known && self.known == self.report.hints,
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
    async fn check_models(&mut self, incarnation: &Incarnation) -> Option<End> {
        if incarnation.models.is_empty() {
            return None;
        }
        match tokio::time::timeout(MODEL_CHECK_TIMEOUT, self.engine.check()).await {
            Ok(Ok(models)) => {
                self.engine.description.models = models;
                (self.engine.description.models != incarnation.models).then_some(End::ModelsChanged)
            }
            Ok(Err(fault)) => Some(End::by(fault)),
            // The self-test finds out whether it hangs for good.
            Err(_) => {
                let fault = Fault::new(FaultKind::Model, "the folder of models does not respond");
                Some(End::FaultReport(fault))
            }
        }
    }
}

pub(crate) async fn start_engine(
    shared: &Shared,
    id: &RunnerId,
) -> Result<EngineThread, engine::BuildError> {
    let options = shared.config.engine.clone();
    let runner = id.clone();
    EngineThread::start(id, move || engine::build(&options, &runner)).await
}

/// Waits until `time`, or for ever.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
