//! The self-test of a runner, and recovery from a fault: the runner stays listed as faulty, takes
//! no jobs, and repeats the self-test with growing delays.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use warmq_process::clock::unix_ms;
use warmq_process::retry::Delays;
use warmq_store::{FaultReport, RunnerReport};
use warmq_types::fault::FaultKind;
use warmq_types::ids::{Epoch, RunnerId};

use crate::context::WorkerContext;
use crate::fault::Fault;
use crate::incarnation::{await_name, epoch_after, registration};
use crate::runner::{Runner, start_engine};

/// Timeout for probing the storage.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Initial size of a probe, bytes. It grows to the size of a file that could not be stored: a full
/// disk may accept small files only.
pub(crate) const PROBE_BYTES: usize = 256 << 10;

/// How recovery ended.
pub(crate) enum Recovery {
    /// The self-test passed.
    Healthy,
    /// The worker stops.
    Stopped,
    /// Only a new process can recover.
    Unrecoverable(Fault),
}

impl Fault {
    /// Returns whether only a new process can recover: a thread that hangs cannot be ended, and a
    /// device context that failed stays unusable.
    pub(crate) fn is_unrecoverable(&self) -> bool {
        matches!(self.kind, FaultKind::Hang | FaultKind::Device)
    }
}

impl Runner {
    /// Runs the self-test: engine, device, models, storage. Replaces a dead engine first.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) async fn self_test(&mut self) -> Result<(), Fault> {
        let timeout = self.context.config.hang_grace;
        let hangs = |_| {
            Fault::new(
                FaultKind::Hang,
                "the engine does not respond to its self-test",
            )
        };
        if self.engine.is_dead() {
            let started = start_engine(&self.context, &self.id);
            let started = tokio::time::timeout(timeout, started)
                .await
                .map_err(hangs)?;
            self.engine = started.map_err(|error| {
                Fault::new(FaultKind::Engine, "the engine cannot be started").because(error)
            })?;
            self.report.clone_from(&self.engine.report);
        }
        let checked = tokio::time::timeout(timeout, self.engine.check()).await;
        self.engine.description.models = checked.map_err(hangs)??;
        self.test_storage().await
    }

    async fn test_storage(&self) -> Result<(), Fault> {
        let WorkerContext {
            artifacts, config, ..
        } = &self.context;
        let refused = || Fault::new(FaultKind::Storage, "the storage cannot be written and read");
        let probe = artifacts.probe(&config.app, self.id.as_str(), self.probe_bytes);
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(probed) => probed.map_err(|error| refused().because(error)),
            Err(_) => {
                let reason = format!("no response within {} s", PROBE_TIMEOUT.as_secs());
                Err(refused().because(reason))
            }
        }
    }

    /// Repeats the self-test until it passes; takes no jobs meanwhile.
    pub(crate) async fn recover(&mut self, fault: Fault) -> Recovery {
        self.epoch = epoch_after(self.epoch);
        let stop = self.context.stop.clone();
        let mut faulty = FaultReport {
            kind: fault.kind,
            details: fault.details,
            since_ms: unix_ms(),
        };
        let mut delays = Delays::self_test();
        let _heartbeats = Heartbeats::start(&self.context, &self.id, self.epoch);
        let mut listed = None;
        let recovery = loop {
            let reason = format!("{}: {}", faulty.kind, faulty.details);
            if listed.as_ref() != Some(&reason) || !self.is_registered().await {
                tracing::warn!(runner = %self.id, reason, "the runner is faulty and takes no jobs until its self-test passes");
                self.register_faulty(&faulty).await;
                listed = Some(reason);
            }
            let waited = stop.run_until_cancelled(tokio::time::sleep(delays.next_delay()));
            if waited.await.is_none() {
                break Recovery::Stopped;
            }
            match self.self_test().await {
                Ok(()) => break Recovery::Healthy,
                Err(fault) if fault.is_unrecoverable() => break Recovery::Unrecoverable(fault),
                Err(fault) => (faulty.kind, faulty.details) = (fault.kind, fault.details),
            }
        };
        match recovery {
            Recovery::Healthy => {
                tracing::info!(runner = %self.id, "self-test passed: joining again");
            }
            // A healthy runner joins again, which replaces this registration.
            Recovery::Stopped | Recovery::Unrecoverable(_) => {
                let left = self.context.store.fleet().leave(
                    &self.context.config.app,
                    &self.id,
                    self.epoch,
                );
                if let Err(error) = left.await {
                    tracing::warn!(runner = %self.id, %error, "could not unregister the runner: its lease will lapse");
                }
            }
        }
        recovery
    }

    async fn is_registered(&self) -> bool {
        send_heartbeat(&self.context, &self.id, self.epoch).await
    }

    /// Registers as faulty. Failures are logged; the next round retries.
    async fn register_faulty(&self, faulty: &FaultReport) {
        let context = &self.context;
        let nothing = RunnerReport::default();
        let description = &self.engine.description;
        let registration = registration(context, &self.id, self.epoch, description, &nothing);
        if let Err(error) = await_name(context, &registration).await {
            tracing::warn!(runner = %self.id, %error, "could not register the faulty runner");
            return;
        }
        let schema = &description.input_schema;
        let registered = (context.store).faults().register(
            &registration,
            schema,
            context.intervals.lease,
            faulty,
        );
        if let Err(error) = registered.await {
            tracing::warn!(runner = %self.id, %error, "could not register the faulty runner");
        }
    }
}

/// Sends a faulty runner's heartbeats until dropped, however long its self-test takes.
struct Heartbeats(JoinHandle<()>);

impl Heartbeats {
    fn start(context: &WorkerContext, runner: &RunnerId, epoch: Epoch) -> Self {
        let (context, runner) = (context.clone(), runner.clone());
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(context.intervals.heartbeat);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                send_heartbeat(&context, &runner, epoch).await;
            }
        }))
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a heartbeat as busy, so that the runner does not become claimable. Returns false if it is
/// not registered.
async fn send_heartbeat(context: &WorkerContext, runner: &RunnerId, epoch: Epoch) -> bool {
    let WorkerContext {
        store,
        config,
        intervals,
        ..
    } = context;
    let alive = store
        .fleet()
        .heartbeat(&config.app, runner, epoch, intervals.lease, true);
    alive.await.unwrap_or(false)
}
