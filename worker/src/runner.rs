//! A runner: one slot, one job at a time, life after life.

use tokio::time::{Instant, MissedTickBehavior};
use warmq_common::hint::Hint;
use warmq_common::ids::{Epoch, RunnerId};
use warmq_common::retry::{until_available, until_success};
use warmq_common::store::RunnerReport;

use crate::consumer::Lost;
use crate::engine;
use crate::engine::thread::EngineThread;
use crate::incarnation::{self, Incarnation, epoch_after};
use crate::patience::Patience;
use crate::shared::Shared;

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
    epoch: Epoch,
}

/// How a life ended.
pub(crate) enum End {
    /// The worker stops.
    Stopped,
    /// RabbitMQ is gone.
    Lost(Lost),
    /// Redis does not know the runner any more.
    Unregistered,
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
            shared,
            id,
            engine,
            epoch: Epoch(0),
        })
    }

    /// Begins the first life, once the servers are there. `None`: the worker stops.
    ///
    /// # Errors
    /// RabbitMQ or Redis refuses.
    pub async fn first_join(&mut self) -> Result<Option<Incarnation>, incarnation::Error> {
        let epoch = &mut self.epoch;
        let (shared, id) = (&self.shared, &self.id);
        let (description, report) = (&self.engine.description, &self.report);
        let stop = &shared.stop;
        until_available(stop, incarnation::Error::is_final, || {
            *epoch = epoch_after(*epoch);
            Incarnation::open(shared, id, *epoch, description, report)
        })
        .await
    }

    /// What the engine is.
    pub fn description(&self) -> &engine::Description {
        &self.engine.description
    }

    /// Runs jobs until the worker stops.
    pub async fn run(mut self, first: Incarnation) {
        let stop = self.shared.stop.clone();
        let mut incarnation = first;
        loop {
            let end = self.live(&mut incarnation).await;
            incarnation.leave(&self.shared, &self.id).await;
            match end {
                End::Stopped => break,
                End::Lost(reason) => {
                    tracing::warn!(runner = %self.id, %reason, "lost RabbitMQ; joining again");
                }
                End::Unregistered => {
                    tracing::warn!(runner = %self.id, "Redis does not know this runner as it is; joining again");
                }
            }
            let epoch = &mut self.epoch;
            let (shared, id) = (&self.shared, &self.id);
            let (description, report) = (&self.engine.description, &self.report);
            let joined = until_success("joining", &stop, || {
                *epoch = epoch_after(*epoch);
                Incarnation::open(shared, id, *epoch, description, report)
            });
            let Some(next) = joined.await else { break };
            tracing::info!(runner = %self.id, epoch = next.epoch.0, "joined again");
            incarnation = next;
            self.known.clone_from(&self.report.hints);
        }
        self.engine.stop().await;
    }

    /// One life: idle, a delivery, idle, …
    async fn live(&mut self, incarnation: &mut Incarnation) -> End {
        let stop = self.shared.stop.clone();
        let mut heartbeats = tokio::time::interval(self.shared.pace.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                taken = incarnation.consumers.next() => match taken {
                    Ok(taken) => taken,
                    Err(lost) => return End::Lost(lost),
                },
                () = at(expecting) => {
                    expecting = None;
                    continue;
                }
                // Never beside a start: a heartbeat of an idle runner makes it claimable.
                _ = heartbeats.tick() => {
                    if !self.heartbeat(incarnation.epoch).await {
                        return End::Unregistered;
                    }
                    continue;
                }
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
        match store
            .heartbeat(&config.app, &self.id, epoch, pace.lease, false)
            .await
        {
            Ok(known) => known && self.known == self.report.hints,
            Err(error) => {
                tracing::warn!(runner = %self.id, %error, "a heartbeat failed");
                true
            }
        }
    }

    /// After a crash: a new engine, as soon as one can be built.
    pub(crate) async fn rebuild_engine(&mut self) {
        let (shared, id) = (&self.shared, &self.id);
        let built = until_success("starting the engine again", &shared.stop, || {
            start_engine(shared, id)
        });
        if let Some(engine) = built.await {
            let old = std::mem::replace(&mut self.engine, engine);
            old.stop().await;
        }
    }
}

async fn start_engine(shared: &Shared, id: &RunnerId) -> Result<EngineThread, engine::BuildError> {
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
